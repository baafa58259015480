"""The sessions that are looked at when the directory changes, and by themselves."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

import pytest

from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.events import Event, SessionsEnded
from smtpgate.core.identity import Identity
from smtpgate.core.reply import Reply
from smtpgate.core.secret import Secret
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.smtp.watch import SessionWatch
from smtpgate.tasks import TaskOwner
from tests.support.clock import MovableClock, move_loop, settle

AT_ONCE: Final = 10
LATER: Final = "2026-11-23T10:00:50Z"  # 50 s after the clock's beginning


class Seat:
    """A session as the watch sees it: the number of looks at it, and its replies."""

    def __init__(self) -> None:
        self.looked_at = 0
        self.output: list[str] = []

    @property
    def client_certificate(self) -> str:
        return ""

    @property
    def client_address(self) -> str:
        self.looked_at += 1
        return "192.0.2.7"

    def request_end(self, last_word: Reply) -> None:
        self.output.append(str(last_word))


class Asked:
    """A directory of access keys that can be out of reach, and keeps what it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, AccessKey] = {}
        self.key_ids: list[str] = []
        self.error: Exception | None = None

    async def access_key(self, key_id: str) -> AccessKey | None:
        self.key_ids.append(key_id)
        if self.error is not None:
            raise self.error
        return self.keys.get(key_id)

    async def identities(self, name: str) -> Sequence[Identity]:
        return ()


class WatchedGate:
    """Accounts with an access key each, the users that are logged in, and the watch."""

    def __init__(self, clock: MovableClock, keys: int) -> None:
        self.clock = clock
        self.directory = Asked()
        self.change(dict.fromkeys(range(keys), ""))
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.watch = SessionWatch(
            directory=self.directory,
            clock=clock,
            events=self,
            tasks=TaskOwner(),
            on_error=self.errors.append,
        )

    def publish(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def change(self, keys: dict[int, str]) -> None:
        """Change the directory, and not tell the watch; see :func:`made` for what is said."""
        self.directory.keys = {key_id(one): made(one, said) for one, said in keys.items()}

    def key(self, number: int) -> AccessKey:
        """The key, looked up without a trace."""
        return self.directory.keys[key_id(number)]

    async def log_in(self, number: int) -> Seat:
        """A session more with that key."""
        changes, seat = self.watch.changes, Seat()
        self.watch.enter(seat, self.key(number), changes=changes)
        return seat

    async def move(self, seconds: float) -> None:
        """Let time pass by all clocks."""
        self.clock.move(seconds)
        await move_loop(seconds)


def account_id(number: int) -> str:
    return f"{number:012}"


def key_id(number: int) -> str:
    return f"AKIA{number:016}"


def made(number: int, said: str) -> AccessKey:
    """A key that is ``inactive``, of an account that is ``paused``, or with that expiry."""
    account = Account(
        account_id(number), "", SendingLimits(-1, -1), "" if said == "paused" else None
    )
    return AccessKey(
        key_id(number),
        Secret("secret"),
        Principal.root(account),
        said != "inactive",
        datetime.fromisoformat(said) if said[:1].isdigit() else None,
    )


def inactive(*numbers: int, of: int) -> dict[int, str]:
    return {one: "inactive" if one in numbers else "" for one in range(of)}


async def test_one_key_of_two_thousand_costs_nothing_for_the_others(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 2000)
    seats = [await watched.log_in(number) for number in range(2000)]
    watched.change(inactive(1234, of=2000))
    await watched.watch.recheck({key_id(1234)}, {account_id(777)})
    assert [number for number, seat in enumerate(seats) if seat.output] == [1234]
    assert [number for number, seat in enumerate(seats) if seat.looked_at] == [777, 1234]
    assert sorted(watched.directory.key_ids) == [key_id(777), key_id(1234)]
    assert watched.events == [
        SessionsEnded(key_id(1234), account_id(1234), "access-key-inactive", 1, clock.now())
    ]


async def test_a_paused_account_ends_the_sessions_of_each_of_its_keys(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 3)
    seats = [await watched.log_in(number) for number in (0, 1, 1, 2)]
    watched.change({0: "", 1: "paused", 2: "paused"})
    await watched.watch.recheck(frozenset(), {account_id(1)})
    assert [len(seat.output) for seat in seats] == [0, 1, 1, 0]
    (event,) = watched.events
    assert isinstance(event, SessionsEnded)
    assert (event.reason, event.sessions) == ("account-paused", 2)


async def test_a_session_is_reported_once(clock: MovableClock) -> None:
    watched = WatchedGate(clock, 1)
    seat = await watched.log_in(0)
    watched.change(inactive(0, of=1))
    for _ in range(2):
        await watched.watch.recheck({key_id(0)}, {account_id(0)})
    assert len(seat.output) == len(watched.events) == 1


async def test_two_changes_at_once_tell_each_session_once(clock: MovableClock) -> None:
    watched = WatchedGate(clock, 1)
    seats = [await watched.log_in(0) for _ in range(50)]
    watched.change(inactive(0, of=1))
    await asyncio.gather(*(watched.watch.recheck({key_id(0)}) for _ in range(2)))
    assert [len(seat.output) for seat in seats] == [1] * 50
    ended = [event.sessions for event in watched.events if isinstance(event, SessionsEnded)]
    assert sum(ended) == 50


@pytest.mark.parametrize("then", ["they stay", "they end", "nobody knows"])
@pytest.mark.parametrize("keys", [1, 300], ids=["one key", "many keys"])
async def test_the_event_loop_is_never_blocked_by_more_than_a_few_sessions_or_keys(
    clock: MovableClock, keys: int, then: str
) -> None:
    watched = WatchedGate(clock, keys)
    seats = [await watched.log_in(number % keys) for number in range(300)]
    if then == "they end":
        watched.change(inactive(*range(keys), of=keys))
    elif then == "nobody knows":
        watched.directory.error = DirectoryUnavailableError("no connection")
    steps = [0]
    checking = asyncio.create_task(watched.watch.recheck(watched.watch.keys))
    while not checking.done():
        await asyncio.sleep(0)
        looked_at = sum(seat.looked_at for seat in seats)
        steps.append(looked_at + len(watched.directory.key_ids))
    assert steps[-1] == keys + (0 if then == "nobody knows" else 300)
    assert all(bool(seat.output) == (then == "they end") for seat in seats)
    taken = [after - before for before, after in pairwise(steps)]
    assert max(taken) <= AT_ONCE


async def test_who_was_looked_up_before_a_change_and_let_in_after_it_is_looked_at(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 2)
    stale, changes = watched.key(0), watched.watch.changes
    watched.change(inactive(0, of=2))
    await watched.watch.recheck({key_id(0)})
    seat = Seat()
    watched.watch.enter(seat, stale, changes=changes)
    await settle()
    assert len(seat.output) == 1
    other = await watched.log_in(1)
    await settle()
    assert not other.looked_at


async def test_what_the_directory_cannot_answer_is_asked_again_after_a_while(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 2)
    first, second = await watched.log_in(0), await watched.log_in(1)
    watched.change(inactive(0, 1, of=2))
    watched.directory.error = DirectoryUnavailableError("no connection")
    await watched.watch.recheck({key_id(0), key_id(1)})
    await watched.move(5)
    assert not first.output
    assert not second.output
    watched.watch.leave(second, watched.key(1))
    watched.directory.error = None
    watched.directory.key_ids.clear()
    await watched.move(5)
    assert len(first.output) == 1
    assert watched.directory.key_ids == [key_id(0)]
    assert not second.output
    assert not watched.errors


async def test_an_error_that_nobody_expected_is_logged_and_the_key_is_asked_for_again(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 2)
    seats = [await watched.log_in(number) for number in range(2)]
    watched.change(inactive(0, 1, of=2))
    watched.directory.error = LookupError("broken")
    await watched.watch.recheck(watched.watch.keys)
    assert watched.errors == [watched.directory.error] * 2
    watched.directory.error = None
    await watched.move(5)
    assert all(seat.output for seat in seats)


async def test_a_key_ends_its_sessions_when_it_expires_and_not_before(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 2)
    watched.change({0: LATER, 1: ""})
    first, second, other = [await watched.log_in(number) for number in (0, 0, 1)]
    await watched.move(49.999)
    assert not first.output
    await watched.move(0.001)
    assert first.output == second.output
    assert first.output[0].startswith("421 4.7.0 Access key has expired")
    await watched.move(3600)
    assert not other.looked_at
    assert watched.directory.key_ids == [key_id(0)], "asked once for two sessions, and no more"


async def test_the_clock_may_run_ahead_of_the_loop_s_and_behind_it(clock: MovableClock) -> None:
    watched = WatchedGate(clock, 1)
    watched.change({0: "2026-11-23T11:00:00Z"})
    seat = await watched.log_in(0)
    await move_loop(7200)
    assert not seat.looked_at, "the clock stands still"
    clock.move(3600)  # as when it is set, or the machine slept
    await move_loop(59)
    assert not seat.output
    await move_loop(1)
    assert len(seat.output) == 1


async def test_a_key_whose_end_was_moved_ends_its_sessions_then(clock: MovableClock) -> None:
    watched = WatchedGate(clock, 3)
    watched.change({0: LATER, 1: LATER, 2: LATER.replace(":50Z", ":58Z")})
    later, never, earlier = [await watched.log_in(number) for number in range(3)]
    watched.change({0: LATER.replace(":50Z", ":55Z"), 1: "", 2: LATER})
    await watched.watch.recheck({key_id(2)})  # the others' change is found when it is time
    await watched.move(50)
    assert (later.output, never.output, len(earlier.output)) == ([], [], 1)
    await watched.move(5)
    assert (len(later.output), never.output) == (1, [])


async def test_nothing_is_left_of_sessions_that_are_over(clock: MovableClock) -> None:
    watched = WatchedGate(clock, 2)
    watched.change({0: LATER, 1: LATER})
    seats = [await watched.log_in(number) for number in (0, 0, 1)]
    keys = [watched.key(number) for number in (0, 0, 1)]
    assert watched.watch.keys == {key_id(0), key_id(1)}
    for seat, key in zip(seats, keys, strict=True):
        watched.watch.leave(seat, key)
    watched.watch.leave(seats[0], keys[0])
    assert watched.watch.keys == frozenset()
    await watched.watch.recheck({key_id(0)}, {account_id(0), account_id(1)})
    await watched.move(3600)
    assert watched.directory.key_ids == []


async def test_a_session_that_takes_long_to_end_is_not_looked_at_all_the_while(
    clock: MovableClock,
) -> None:
    watched = WatchedGate(clock, 1)
    watched.change({0: LATER})
    seat = await watched.log_in(0)
    await watched.move(60)
    assert len(seat.output) == 1
    await watched.move(3600)
    assert watched.directory.key_ids == [key_id(0)]
    watched.watch.leave(seat, watched.key(0))
    assert watched.watch.keys == frozenset()
