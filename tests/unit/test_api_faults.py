"""Refusals of messages as the API answers them."""

from smtpgate.core.api.faults import FAULTS, fault_of_reply
from smtpgate.core.reply import Reject
from tests.support.rows import rows


@rows(
    "reason, facts, older, newer",
    [
        ("account-paused", {}, "AccountSendingPausedException", "SendingPausedException"),
        # Paused for its rates: SES has no exception of its own in version 1.
        ("account-shutdown", {}, "MessageRejected", "SendingPausedException"),
        ("delegate-paused", {"arn": "x"}, "MessageRejected", "MessageRejected"),
        (
            "configuration-set-paused",
            {"set_name": "spring"},
            "ConfigurationSetSendingPausedException",
            "SendingPausedException",
        ),
    ],
)
def test_a_pause_has_the_exception_of_ses(
    reason: str, facts: dict[str, str], older: str, newer: str
) -> None:
    reply = Reject.of(reason, "its bounce rate is 12.34 %", **facts).reply
    error = fault_of_reply(reply.code, reply.name, reply.text)
    row = FAULTS[error.fault]
    assert (row.v1, row.v2) == (older, newer)
    assert str(error).startswith("Sending ")
