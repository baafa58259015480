"""Ends sessions whose access key may not be used any more: revoked, expired, moved or paused.

Each message is checked against the directory by the pipeline; this is for sessions that are
open between messages. They are kept by access key, so a change costs one look-up a key in use,
and nothing for the sessions of other keys. A key in use that expires has a timer. The work is
done in small steps, between which the event loop serves the other sessions.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from smtpgate.core.account import AccessKey, usable_key
from smtpgate.core.events import SessionsEnded
from smtpgate.core.reply import Reject, Reply
from smtpgate.core.upstream.verdict import last_word
from smtpgate.ports import Clock, Directory, DirectoryUnavailableError, EventSink
from smtpgate.tasks import TaskOwner

# Ending a session costs 30 to 90 µs (over TLS), most of it when its task wakes up.
_AT_ONCE: Final = 10
_AGAIN: Final = timedelta(seconds=5)
# A timer does not notice that the clock was set, or that the machine slept.
_LONGEST_WAIT_S: Final = 60.0


class Watched(Protocol):
    """A session that has logged in."""

    @property
    def client_address(self) -> str:
        """The address of its client."""

    @property
    def client_certificate(self) -> str:
        """The pin of the certificate that its client showed, empty without one."""

    def request_end(self, last_word: Reply) -> None:
        """End with that reply as soon as the protocol allows; returns at once."""


@dataclass(slots=True)
class _Use:
    """An access key that is in use: by which sessions, and when to look at it again."""

    account_id: str
    sessions: set[Watched] = field(default_factory=set)
    look_at: datetime | None = None
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        """Do not look again."""
        if self.timer is not None:
            self.timer.cancel()
        self.look_at = self.timer = None


class SessionWatch:
    """The sessions of all listeners that have logged in, by access key and account."""

    def __init__(
        self,
        *,
        directory: Directory,
        clock: Clock,
        events: EventSink,
        tasks: TaskOwner,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.changes = 0  # of the directory, so far; a login takes note of it
        self._directory = directory
        self._clock = clock
        self._events = events
        self._tasks = tasks
        self._on_error = on_error
        self._uses: dict[str, _Use] = {}
        self._keys_of: dict[str, set[str]] = {}
        self._steps = 0

    # -- what sessions call --------------------------------------------------------------------

    def enter(self, session: Watched, key: AccessKey, *, changes: int) -> None:
        """The session has logged in with the key; ``changes`` is from before the look-up."""
        account_id = key.principal.account.id
        use = self._uses.get(key.id)
        if use is None:
            use = self._uses[key.id] = _Use(account_id)
            self._keys_of.setdefault(account_id, set()).add(key.id)
        use.sessions.add(session)
        self._look_at(key.id, use, key.expires_at)
        if changes != self.changes:  # perhaps this key is what changed since
            self._look(key.id)

    def leave(self, session: Watched, key: AccessKey) -> None:
        """The session is over."""
        use = self._uses.get(key.id)
        if use is None:
            return
        use.sessions.discard(session)
        if not use.sessions:
            use.stop_timer()
            del self._uses[key.id]
            keys = self._keys_of[use.account_id]
            keys.discard(key.id)
            if not keys:
                del self._keys_of[use.account_id]

    # -- what changes the directory calls ------------------------------------------------------

    @property
    def keys(self) -> frozenset[str]:
        """The access keys that are in use."""
        return frozenset(self._uses)

    async def recheck(self, keys: Set[str], accounts: Set[str] = frozenset()) -> None:
        """End the sessions of these keys and accounts that may not send any more.

        Returns when each has been asked to end. What the directory cannot answer now is asked
        again later.
        """
        self.changes += 1
        of_accounts = [self._keys_of[one] for one in accounts & self._keys_of.keys()]
        await self._check_all((keys & self._uses.keys()).union(*of_accounts))

    async def _check_all(self, key_ids: Iterable[str]) -> None:
        for key_id in key_ids:
            await self._let_others_run()
            await self._check(key_id)

    async def _check(self, key_id: str) -> None:
        try:
            key = await self._directory.access_key(key_id)
        except Exception as error:  # noqa: BLE001 - the other keys have their turn all the same
            if not isinstance(error, DirectoryUnavailableError):
                self._on_error(error)
            self._look_again(key_id)
            return
        use = self._uses.get(key_id)
        if use is None:
            return
        await self._end_sessions(key_id, use, key)
        if key is not None and use.sessions:  # they stay, for now
            self._look_at(key_id, use, key.expires_at)

    async def _end_sessions(self, key_id: str, use: _Use, key: AccessKey | None) -> None:
        now = self._clock.now()
        ended: Counter[str] = Counter()
        for session in tuple(use.sessions):
            await self._let_others_run()
            if session not in use.sessions:
                continue
            try:
                address, pin = session.client_address, session.client_certificate
                _ = usable_key(key, address, now, pin)
            except Reject as refusal:
                use.sessions.discard(session)  # decided, also when its end takes a while
                session.request_end(last_word(refusal))
                ended[refusal.reason] += 1
        for reason, sessions in ended.items():
            self._events.publish(
                SessionsEnded(key_id, use.account_id, reason, sessions, self._clock.now())
            )

    async def _let_others_run(self) -> None:
        self._steps += 1
        if self._steps % _AT_ONCE == 0:
            await asyncio.sleep(0)

    # -- looking again by itself ---------------------------------------------------------------

    def _look_again(self, key_id: str) -> None:
        """After a while; until then the pipeline cannot ask either, so nothing is sent."""
        use = self._uses.get(key_id)
        if use is not None:
            self._look_at(key_id, use, self._clock.now() + _AGAIN)

    def _look_at(self, key_id: str, use: _Use, at: datetime | None) -> None:
        """Look at the key at that moment, unless that is planned for an earlier one."""
        if at is None or (use.look_at is not None and use.look_at <= at):
            return
        use.stop_timer()
        use.look_at = at
        wait_s = (at - self._clock.now()).total_seconds()
        use.timer = asyncio.get_running_loop().call_later(
            max(0.0, min(wait_s, _LONGEST_WAIT_S)), self._on_timer, key_id, use
        )

    def _on_timer(self, key_id: str, use: _Use) -> None:
        at = use.look_at
        use.stop_timer()
        if at is not None and self._clock.now() < at:
            self._look_at(key_id, use, at)
        else:
            self._look(key_id)

    def _look(self, key_id: str) -> None:
        _ = self._tasks.start(self._check(key_id), name=f"check of {key_id}")
