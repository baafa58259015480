"""Events reach the sinks that read their kind, in order, whatever another sink does."""

from datetime import UTC, datetime
from typing import ClassVar, Final

from smtpgate.core.events import (
    AuthFailed,
    ClientEvent,
    Event,
    JournalChanged,
    MailRefused,
    RecordsInDoubt,
    SessionOpened,
)
from smtpgate.gate.sinks import Sinks
from smtpgate.journal.entries import RECORDED

OPENED: Final = SessionOpened("submission")
IN_DOUBT: Final = RecordsInDoubt(1, datetime(2026, 11, 29, tzinfo=UTC))
CHANGED: Final = JournalChanged(None, 0, IN_DOUBT.at)


class Reading:
    def __init__(self, name: str, seen: list[tuple[str, Event]]) -> None:
        self.name, self.seen = name, seen

    def publish(self, event: Event) -> None:
        self.seen.append((self.name, event))


class Choosy(Reading):
    reads: ClassVar[tuple[type, ...]] = (SessionOpened, RecordsInDoubt)


class Broken(Reading):
    def publish(self, event: Event) -> None:
        super().publish(event)
        raise LookupError(self.name)


def test_each_sink_gets_the_events_that_it_reads_in_order() -> None:
    seen, errors = list[tuple[str, Event]](), list[BaseException]()
    inner = Sinks(Choosy("b", seen), Broken("c", seen), on_error=errors.append)
    sinks = Sinks(
        Reading("a", seen), inner, Choosy("d", seen), Reading("e", seen), on_error=errors.append
    )
    expected: list[tuple[Event, str]] = [
        (OPENED, "abcde"),
        (CHANGED, "ace"),
        (IN_DOUBT, "abcde"),
    ]
    for event, wanted in expected * 2:
        sinks.publish(event)
        assert seen == [(name, event) for name in wanted]
        seen.clear()
    assert [str(error) for error in errors] == ["c"] * 6


def test_a_sink_that_reads_a_base_reads_what_is_derived_from_it() -> None:
    class OfClients(Reading):
        reads: ClassVar[tuple[type, ...]] = (ClientEvent,)

    assert all(issubclass(kind, OfClients.reads) for kind in RECORDED)
    sinks = Sinks(OfClients("a", []), on_error=list[BaseException]().append)
    assert [len([*sinks._readers_of(kind)]) for kind in (AuthFailed, MailRefused)] == [1, 1]
    assert [*sinks._readers_of(SessionOpened)] == []
