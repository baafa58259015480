"""One connection to Redis or Valkey, over which scripts are run in groups.

Calls that arrive while a group is in flight are sent together as the next one, so a busy gate
asks few times and each time for much. When anything goes wrong, the connection is dropped and a
new one is made. So no answer can ever be taken for another's.

A caller waits ``timeout_s`` at most. Until then a call that failed is sent again, after pauses
that grow and differ from host to host, so that a server that restarts or is replaced is waited
for, and not called by all hosts at once. A script must be harmless to run again. The caller
learns whether it was sent more than once, because an earlier copy may still be under way.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from random import SystemRandom
from typing import Any, Final, NamedTuple

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from smtpgate.ports import LedgerUnavailableError, LedgerUnfitError
from smtpgate.tasks import TaskOwner

_MAX_GROUP: Final = 128
_MAX_WAITING: Final = 20_000
_MAX_OWED: Final = 100_000
# Pauses after failures, while a caller waits: doubled each time, and randomly halved.
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
_RETRY_S: Final = 0.5
_PAID_WITHIN_S: Final = 0.1
# At one in half a second it is longer than a lease: then it stays counted.
_MAX_TRIES: Final = 2000
_DICE: Final = SystemRandom()
_INSTEAD: Final = "name one server, or the primary of several"
_A_CLUSTER: Final = f"it is a node of a cluster; {_INSTEAD}"
_KEEPS_NOTHING: Final = f"it is not a server that keeps data; {_INSTEAD}"
# MOVED is an AskError too.
_CLUSTER_ERRORS: Final = (AskError, ClusterCrossSlotError, ClusterDownError, TryAgainError)


class InDoubtLedgerError(LedgerUnavailableError):
    """The command was sent and no answer came: it may be carried out, also later."""


class _UnfitSinceError(InDoubtLedgerError, LedgerUnfitError):
    """The same, and the server turned out to be unfit when the command was sent again."""


class Script:
    """A Lua script, called by the digest under which the server remembers it."""

    def __init__(self, source: str) -> None:
        self.source = source
        # Not for secrecy: it is the name that EVALSHA wants.
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


class RedisAnswer(NamedTuple):
    """The answer of a script. An earlier copy of the call may still reach the server."""

    facts: list[int]
    was_sent_again: bool


@dataclass(slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | int]
    future: asyncio.Future[list[int]] | None = None
    is_done: bool = False
    tries: int = 0
    sent: int = 0
    problem: str = ""

    @property
    def words(self) -> tuple[str | int, ...]:
        """The arguments after the script or its digest."""
        return (len(self.keys), *self.keys, *self.arguments)

    @property
    def is_given_up(self) -> bool:
        """True if its caller has given up."""
        return self.future is not None and self.future.done()

    def finish(self, answer: list[int]) -> None:
        """Give the answer to the caller, if it still waits."""
        self.is_done = True
        if self.future is not None and not self.future.done():
            self.future.set_result(answer)

    def fail_unfit(self, problem: str) -> None:
        """End the call with the error, if the caller still waits."""
        if self.future is not None and not self.future.done():
            kind = _UnfitSinceError if self.sent else LedgerUnfitError
            self.future.set_exception(kind(problem))


class Link:
    """Runs scripts. All of it belongs to the event loop that first calls it."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """``url`` is redis://, rediss:// or unix://; nothing is connected yet.

        Raises ValueError for a URL that means nothing.
        """
        self._timeout_s = timeout_s
        # It makes connections from the URL, and keeps none open.
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            health_check_interval=0,
        )
        self._connection: AbstractConnection | None = None
        self._waiting: deque[_Call] = deque()
        self._owed: deque[_Call] = deque(maxlen=_MAX_OWED)
        self._tasks = TaskOwner()
        self._is_sending = False
        self._may_pay = True
        self._later: asyncio.TimerHandle | None = None
        self.is_closed = False

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]
    ) -> RedisAnswer:
        """The answer of the script, within ``timeout_s``.

        Raises LedgerUnavailableError: LedgerUnfitError where to wait is no use,
        InDoubtLedgerError where the script may be carried out.
        """
        if self.is_closed:
            raise LedgerUnavailableError("closed")
        if len(self._waiting) >= _MAX_WAITING:
            raise LedgerUnavailableError(f"{_MAX_WAITING} questions wait for it already")
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        one = _Call(script, keys, arguments, future)
        self._waiting.append(one)
        self._send_soon()
        try:
            async with asyncio.timeout(self._timeout_s):
                facts = await future
        except TimeoutError:
            text = one.problem or self._no_answer
            # Before there was a connection nothing can have been sent.
            raise (InDoubtLedgerError if one.sent else LedgerUnavailableError)(text) from None
        return RedisAnswer(facts, one.sent > 1)

    def owe(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        """Run the script soon, and again until it is done; it must be harmless to run twice."""
        self._owed.append(_Call(script, keys, arguments))
        self._pay_in(_PAID_WITHIN_S)

    async def close(self) -> None:
        """Run the owed calls, if that is possible now, and disconnect."""
        self.is_closed = True
        if self._later is not None:
            self._later.cancel()
        self._may_pay = True
        self._send_soon()
        await self._tasks.drain(self._timeout_s)
        await self._drop()

    # -- sending -------------------------------------------------------------------------------

    def _send_soon(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            _ = self._tasks.start(self._send())

    def _pay_in(self, seconds: float) -> None:
        if self._later is None and not self.is_closed:
            self._later = asyncio.get_running_loop().call_later(seconds, self._pay_now)

    def _pay_now(self) -> None:
        self._later, self._may_pay = None, True
        self._send_soon()

    async def _send(self) -> None:
        """Send groups until nothing is left to send; owed calls pause after a failure."""
        pause_s = _FIRST_PAUSE_S
        try:
            while self._waiting or (self._owed and self._may_pay):
                owed = _taken(self._owed) if self._may_pay else []
                is_well = await self._carry_out([*owed, *_taken(self._waiting)])
                left = [call for call in owed if not call.is_done and call.tries < _MAX_TRIES]
                self._owed.extendleft(reversed(left))
                self._may_pay = not left
                if is_well:
                    pause_s = _FIRST_PAUSE_S
                elif self._waiting:
                    await asyncio.sleep(_DICE.uniform(pause_s / 2, pause_s))
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._is_sending = False
        if self._owed:
            self._pay_in(_RETRY_S)

    async def _carry_out(self, group: Sequence[_Call]) -> bool:
        """Run a group; whether all calls were answered. The others wait again."""
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connected()
                # A caller that gave up before its call was sent does not undo it.
                group = [call for call in group if not call.is_given_up]
                for call in group:
                    call.sent += 1
                answers = await _run(connection, group)
        except LedgerUnfitError as error:
            self._give_up(group, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the callers get it, whatever it was
            await self._drop()
            self._defer(group, self._in_words(error))
            return False
        except BaseException:
            await self._drop()
            raise
        refused: list[_Call] = []
        for call, answer in zip(group, answers, strict=True):
            if isinstance(answer, ResponseError):
                refused.append(call)
                call.problem = str(answer)
            else:
                call.finish(answer)
        if refused:
            # It may have become a replica, or be full: ask again which server has this name.
            await self._drop()
            if any(map(_is_of_cluster, answers)):
                self._give_up(refused, _A_CLUSTER)
            else:
                self._defer(refused)
        return not refused

    def _give_up(self, group: Iterable[_Call], problem: str) -> None:
        """Fail these and all that wait: the server will not become another one."""
        self._defer(group, problem)
        while self._waiting:
            self._waiting.popleft().fail_unfit(problem)

    def _defer(self, group: Iterable[_Call], problem: str = "") -> None:
        """Put the calls whose callers still wait back, at the head of the queue."""
        for call in group:
            call.tries += 1
            call.problem = problem or call.problem
        again = [call for call in group if call.future is not None and not call.is_given_up]
        self._waiting.extendleft(reversed(again))

    @property
    def _no_answer(self) -> str:
        return f"no answer within {self._timeout_s:g} s"

    def _in_words(self, error: Exception) -> str:
        if not isinstance(error, RedisError | OSError):
            # The client library does not check that an answer is a number where it expects one.
            return f"its answer means nothing ({type(error).__name__})"
        return str(error) or self._no_answer

    async def _connected(self) -> AbstractConnection:
        """The connection, made when there is none or the server has left it."""
        if self._connection is not None and await _is_stale(self._connection):
            await self._drop()
        if self._connection is None:
            connection: AbstractConnection = self._pool.make_connection()
            try:
                await connection.connect()
                await _must_be_one_server(connection)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection = connection
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _must_be_one_server(connection: AbstractConnection) -> None:
    """Raise LedgerUnfitError for a node of a cluster, or a sentinel."""
    try:
        (answer,) = await _ask(connection, [("HELLO",)])
    except AuthenticationError:  # the first question will say so
        return
    if isinstance(answer, ResponseError):  # older than Redis 6; a cluster's errors will show
        return
    facts = dict(zip(answer[::2], answer[1::2], strict=False))
    mode = facts.get(b"mode", b"standalone")
    if mode != b"standalone":
        raise LedgerUnfitError(_A_CLUSTER if mode == b"cluster" else _KEEPS_NOTHING)


def _is_of_cluster(answer: object) -> bool:
    """True if it is an error that only a node of a cluster has."""
    return isinstance(answer, _CLUSTER_ERRORS) and not isinstance(answer, MasterDownError)


async def _is_stale(connection: AbstractConnection) -> bool:
    """True if the connection has ended, or has sent octets without a call."""
    try:
        return await connection.can_read()
    except (RedisError, OSError):
        return True


def _taken(calls: deque[_Call], most: int = _MAX_GROUP) -> list[_Call]:
    return [calls.popleft() for _ in range(min(len(calls), most))]


async def _run(connection: AbstractConnection, group: list[_Call]) -> list[Any]:
    """The answers, or ResponseErrors; a script that the server has forgotten is sent whole."""
    answers = await _ask(connection, [("EVALSHA", c.script.digest, *c.words) for c in group])
    unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        again = [("EVAL", group[at].script.source, *group[at].words) for at in unknown]
        for at, answer in zip(unknown, await _ask(connection, again), strict=True):
            answers[at] = answer
    return answers


async def _ask(
    connection: AbstractConnection, commands: list[tuple[str | int, ...]]
) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
