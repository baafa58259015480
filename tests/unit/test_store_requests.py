"""The short form of a verdict's request: with the beginning of its message it is the whole."""

from msgspec.structs import replace

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import Charge, Reservation, Subject
from smtpgate.core.limits.reservation import Counted
from smtpgate.gate.frames import AskComplete, AskFinish, NotBegun
from smtpgate.gate.store_begun import BegunMessages
from smtpgate.journal.rows import Row
from smtpgate.journal.statements import Entry
from smtpgate.ledger.transactions import Settle
from smtpgate.store.requests import Begin, Completion, Finish
from tests.support.clock import MovableClock
from tests.support.rows import rows

NOW = MovableClock().now()
COLUMNS = {name: f"the {name}" for name in Row.__struct_fields__}
BEGUN = Entry(
    row=Row(**COLUMNS | {"received_us": 1, "done_us": None, "octets": 2, "recipients": 3}),  # type: ignore[arg-type]
    texts={"digest": "Allow"},
    early_terms=b"early",
    is_final=False,
)
ENDED = replace(
    BEGUN,
    row=BEGUN.row.completed(4, "refused", "recipients-refused", '{"masked":true}'),
    is_final=True,
    is_begun=True,
)
CHARGE = Charge(Subject("999999999999"), SendingLimits(200, 5))
RESERVATION = Reservation(1, 3, NOW, (CHARGE,), (Counted(5, 6),), may_cross=True)


@rows(
    "reservation, finish",
    [
        (None, Finish(None, ENDED, "a")),
        (RESERVATION, Finish(Settle(RESERVATION, 2, NOW), ENDED, "a")),
        (RESERVATION, Finish(Settle(RESERVATION.with_only_rate(1), 0, NOW), ENDED, "a")),
        (RESERVATION, Finish(None, replace(ENDED, late_terms=b"late"), "a")),
        (None, Finish(None, replace(ENDED, may_be_there=True), "a")),
        (None, Finish(None, replace(ENDED, tasks=(), events=(), configuration_set="b"), "a")),
    ],
)
def test_a_verdict_and_its_beginning_are_the_whole_request(
    reservation: Reservation | None, finish: Finish
) -> None:
    assert finish.entry is not None
    completion = Completion.of(finish, finish.entry)
    assert completion.whole(BEGUN, reservation) == finish


def test_a_verdict_is_never_completed_by_less_than_its_message_began_with() -> None:
    begun = BegunMessages()
    uncounted = Completion.of(Finish(None, ENDED, "a"), ENDED)
    counted = Completion.of(Finish(Settle(RESERVATION, 2, NOW), ENDED, "a"), ENDED)
    asked = [AskComplete(7, counted)]
    assert begun.complete(asked) == ([], [NotBegun(7)])
    begun.add(Begin(None, BEGUN, "a"), None)
    assert begun.complete(asked) == ([], [NotBegun(7)]), "it was not counted"
    whole, unknown = begun.complete([AskComplete(8, uncounted)])
    assert (whole, unknown) == ([AskFinish(8, Finish(None, ENDED, "a"))], [])
