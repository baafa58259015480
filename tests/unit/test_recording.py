"""Events that come after the verdict: kept with their destinations, each new one announced."""

from collections.abc import Sequence

from smtpgate.core.events import Event, EventsRecorded
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.ports import Added
from smtpgate.recording import EventRecorder
from tests.support.events import done
from tests.support.outbox import HOOK, event_about


class Wanting:
    """Subscribers that want all, with a default configuration set."""

    def want_sends(self, account_id: str, identity: str) -> bool:
        return True

    async def default_set(self, account_id: str, identity: str) -> str:
        return "by-default"

    async def pause_of(self, account_id: str, configuration_set: str) -> str | None:
        return None

    async def lists(self, event: SendingEvent) -> Sequence[Destination]:
        return ()

    async def destinations(self, event: SendingEvent) -> Sequence[Destination]:
        return (HOOK,)


class Keeping:
    """An outbox and a sink that remember; an event is new once."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Task], list[SendingEvent]]] = []
        self.ids: set[str] = set()
        self.published: list[Event] = []

    async def add(self, tasks: Sequence[Task], events: Sequence[SendingEvent] = ()) -> Added:
        self.calls.append((list(tasks), list(events)))
        new = frozenset(one.id for one in events) - self.ids
        self.ids |= new
        return Added(len(tasks), new)

    def publish(self, event: Event) -> None:
        self.published.append(event)


async def test_an_event_gets_the_default_configuration_set_and_is_announced_once() -> None:
    kept = Keeping()
    recorder = EventRecorder(Wanting(), kept, kept)
    named = event_about(done(), configuration_set="news")
    plain = event_about(done(), named.detail, "joe@example.net")
    new = await recorder.record([named, plain])
    assert [one.mail.configuration_set for one in new] == ["news", "by-default"]
    assert [one.id for one in new] == [named.id, plain.id]
    ((tasks, events),) = kept.calls
    assert tasks == [Task(one, HOOK) for one in new]
    assert events == [*new]
    assert await recorder.record([named]) == ()
    assert kept.published == [EventsRecorded(new)]


async def test_nothing_is_written_where_nothing_happened() -> None:
    kept = Keeping()
    assert await EventRecorder(Wanting(), kept, kept).record([]) == ()
    assert (kept.calls, kept.published) == ([], [])
