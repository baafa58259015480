"""One connection to Redis or Valkey, over which scripts are run in groups.

What arrives while a group is under way goes out together as the next one, so a busy gate asks
few times and each time for much. A group has so many seconds; when they are over, or anything
else goes wrong, the connection is dropped and the next group makes a new one. So no answer can
ever be taken for another's, and a server that is back is in use again by itself.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from smtpgate.ports import LedgerUnavailableError
from smtpgate.tasks import TaskOwner

__all__ = ["InDoubtLedgerError", "Link", "Script"]

_MAX_GROUP: Final = 128
_MAX_OWED: Final = 100_000
_RETRY_S: Final = 0.5
_PAID_WITHIN_S: Final = 0.1
# At one in half a second it is longer than a lease: then it stays counted.
_MAX_TRIES: Final = 2000


class InDoubtLedgerError(LedgerUnavailableError):
    """The command was sent and no answer came: it may be carried out, also later."""


class Script:
    """A Lua script, called by the digest under which the server remembers it."""

    def __init__(self, source: str) -> None:
        self.source = source
        # Not for secrecy: it is the name that EVALSHA wants.
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | int]
    future: asyncio.Future[list[int]] | None = None
    is_done: bool = False
    tries: int = 0

    @property
    def words(self) -> tuple[str | int, ...]:
        """What follows the script, or its digest."""
        return (len(self.keys), *self.keys, *self.arguments)

    def finish(self, answer: list[int]) -> None:
        """Hand over the answer, if anybody still waits."""
        self.is_done = True
        if self.future is not None and not self.future.done():
            self.future.set_result(answer)

    def fail(self, problem: LedgerUnavailableError) -> None:
        """Hand over what went wrong, if anybody still waits."""
        self.tries += 1
        if self.future is not None and not self.future.done():
            self.future.set_exception(problem)


class Link:
    """Runs scripts. All of it belongs to the event loop that first calls it."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """``url`` is redis://, rediss:// or unix://; nothing is connected yet.

        Raises ValueError for a URL that means nothing.
        """
        self._timeout_s = timeout_s
        # It makes connections from the URL; it holds none.
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
    ) -> list[int]:
        """What the script answers. Raises LedgerUnavailableError, or its InDoubtLedgerError."""
        if self.is_closed:
            raise LedgerUnavailableError("closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        self._waiting.append(_Call(script, keys, arguments, future))
        self._send_soon()
        return await future

    def owe(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        """Run the script soon, and again until it is done; it must be harmless to run twice."""
        self._owed.append(_Call(script, keys, arguments))
        self._pay_in(_PAID_WITHIN_S)

    async def close(self) -> None:
        """Run what is owed, if that is possible now, and disconnect."""
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
        """Send groups until nothing is left to send; what is owed rests after a failure."""
        try:
            while self._waiting or (self._owed and self._may_pay):
                owed = _taken(self._owed) if self._may_pay else []
                await self._carry_out([*owed, *_taken(self._waiting)])
                left = [call for call in owed if not call.is_done and call.tries < _MAX_TRIES]
                self._owed.extendleft(reversed(left))
                self._may_pay = not left
        finally:
            self._is_sending = False
        if self._owed:
            self._pay_in(_RETRY_S)

    async def _carry_out(self, group: list[_Call]) -> None:
        """Run a group, and tell who waits."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await _run(await self._connected(), group)
        except Exception as error:  # noqa: BLE001 - who waits hears of it, whatever it was
            # Before there was a connection nothing can have been sent.
            kind = LedgerUnavailableError if self._connection is None else InDoubtLedgerError
            text = self._in_words(error)
            await self._drop()
            for call in group:
                call.fail(kind(text))
            # They have waited as long: the server's silence is theirs, too.
            for call in _taken(self._waiting, len(self._waiting)):
                call.fail(LedgerUnavailableError(text))
            return
        except BaseException:
            await self._drop()
            raise
        for call, answer in zip(group, answers, strict=True):
            if isinstance(answer, ResponseError):
                call.fail(LedgerUnavailableError(str(answer)))
            else:
                call.finish(answer)
        if any(isinstance(answer, ResponseError) for answer in answers):
            # It may have become a replica, or be full: ask anew who serves this name.
            await self._drop()

    def _in_words(self, error: Exception) -> str:
        if not isinstance(error, RedisError | OSError):
            # The client trusts what the server says to be numbers where it wants numbers.
            return f"its answer means nothing ({type(error).__name__})"
        return str(error) or f"no answer within {self._timeout_s:g} s"

    async def _connected(self) -> AbstractConnection:
        """The connection, made when there is none or the server has left it."""
        if self._connection is not None and await _is_stale(self._connection):
            await self._drop()
        if self._connection is None:
            connection: AbstractConnection = self._pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection = connection
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _is_stale(connection: AbstractConnection) -> bool:
    """Whether it has ended, or has something to say that nobody asked for."""
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
