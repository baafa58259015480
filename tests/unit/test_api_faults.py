"""Refusals of messages as the API answers them."""

import pytest

from smtpgate.api.served import services
from smtpgate.core.api.faults import FAULTS, ApiError, fault_of_reply, row_of
from smtpgate.core.api.model import ErrorShape
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


@rows(
    "fault, in_ses, in_sns",
    [
        ("invalid-value", "InvalidParameterValue", "InvalidParameterException"),
        ("bad-token", "InvalidParameterValue", "InvalidParameterException"),
        ("access-denied", "AccessDenied", "AuthorizationErrorException"),
        ("not-found", "InvalidParameterValue", "NotFoundException"),
        ("internal", "InternalFailure", "InternalErrorException"),
    ],
)
def test_sns_has_codes_that_its_clients_have_exceptions_for(
    fault: str, in_ses: str, in_sns: str
) -> None:
    assert row_of(fault, "ses") == FAULTS[fault]
    assert FAULTS[fault].v1 == in_ses
    row = row_of(fault, "sns")
    assert services()["sns"].shapes[in_sns].error == ErrorShape(row.v1, row.v1_status)


def test_an_error_is_of_a_fault_that_has_codes() -> None:
    with pytest.raises(ValueError, match="not a fault: 'quota'"):
        ApiError("quota", "There is none.")
