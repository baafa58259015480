"""The faults of API calls: one row each, with its code and status in both versions of the API.

https://docs.aws.amazon.com/ses/latest/APIReference/CommonErrors.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from smtpgate.core.api.sigv4 import SignatureFault


class FaultRow(NamedTuple):
    """The code and HTTP status in the Query protocol (v1), and those in REST-JSON (v2)."""

    v1: str
    v1_status: int
    v2: str
    v2_status: int


_INVALID: Final = ("BadRequestException", 400)
_MAIL_FROM: Final = "MailFromDomainNotVerifiedException"
FAULTS: Final[Mapping[str, FaultRow]] = {
    # before an operation is known
    "no-signature": FaultRow(
        "MissingAuthenticationToken", 403, "MissingAuthenticationTokenException", 403
    ),
    "bad-signature-form": FaultRow(
        "IncompleteSignature", 400, "IncompleteSignatureException", 403
    ),
    "bad-signature": FaultRow("SignatureDoesNotMatch", 403, "InvalidSignatureException", 403),
    "unknown-key": FaultRow("InvalidClientTokenId", 403, "UnrecognizedClientException", 403),
    "no-action": FaultRow("MissingAction", 400, "UnknownOperationException", 404),
    "unknown-action": FaultRow("InvalidAction", 400, "UnknownOperationException", 404),
    "not-served": FaultRow("InvalidAction", 400, *_INVALID),
    "malformed-query": FaultRow("MalformedQueryString", 404, "SerializationException", 400),
    "malformed-input": FaultRow("MalformedInput", 400, "SerializationException", 400),
    "too-large": FaultRow("RequestEntityTooLarge", 413, "RequestEntityTooLargeException", 413),
    "too-slow": FaultRow("RequestTimeout", 408, "RequestTimeoutException", 408),
    # of an operation
    "validation": FaultRow("ValidationError", 400, *_INVALID),
    "invalid-value": FaultRow("InvalidParameterValue", 400, *_INVALID),
    "invalid-policy": FaultRow("InvalidPolicy", 400, *_INVALID),
    "access-denied": FaultRow("AccessDenied", 403, "AccessDeniedException", 403),
    "not-found": FaultRow("InvalidParameterValue", 400, "NotFoundException", 404),
    "already-exists": FaultRow("AlreadyExists", 400, "AlreadyExistsException", 400),
    "changed-meanwhile": FaultRow(
        "ServiceUnavailable", 503, "ConcurrentModificationException", 500
    ),
    "limit-exceeded": FaultRow("LimitExceeded", 400, "LimitExceededException", 400),
    "bad-token": FaultRow("InvalidParameterValue", 400, "InvalidNextTokenException", 400),
    "no-such-set": FaultRow("ConfigurationSetDoesNotExist", 400, "NotFoundException", 404),
    "set-exists": FaultRow("ConfigurationSetAlreadyExists", 400, "AlreadyExistsException", 400),
    "no-destination": FaultRow("EventDestinationDoesNotExist", 400, "NotFoundException", 404),
    "destination-exists": FaultRow(
        "EventDestinationAlreadyExists", 400, "AlreadyExistsException", 400
    ),
    "no-topic": FaultRow("InvalidSNSDestination", 400, *_INVALID),
    "no-firehose": FaultRow("InvalidFirehoseDestination", 400, *_INVALID),
    "no-cloudwatch": FaultRow("InvalidCloudWatchDestination", 400, *_INVALID),
    "no-such-template": FaultRow("TemplateDoesNotExist", 400, "NotFoundException", 404),
    "invalid-template": FaultRow("InvalidTemplate", 400, *_INVALID),
    "missing-value": FaultRow("MissingRenderingAttribute", 400, *_INVALID),
    "invalid-data": FaultRow("InvalidRenderingParameter", 400, *_INVALID),
    # of SNS
    "invalid-parameter": FaultRow("InvalidParameter", 400, *_INVALID),
    "no-sns-object": FaultRow("NotFound", 404, "NotFoundException", 404),
    "no-sns-resource": FaultRow("ResourceNotFound", 404, "NotFoundException", 404),
    "sns-access-denied": FaultRow("AuthorizationError", 403, "AccessDeniedException", 403),
    "sns-internal": FaultRow("InternalError", 500, "InternalServiceErrorException", 500),
    # of sending
    "rejected": FaultRow("MessageRejected", 400, "MessageRejected", 400),
    # The model of v2: "it contains invalid content". nodemailer's verify() relies on that.
    "bad-message": FaultRow("InvalidParameterValue", 400, "MessageRejected", 400),
    "account-paused": FaultRow(
        "AccountSendingPausedException", 400, "SendingPausedException", 400
    ),
    "account-shutdown": FaultRow("MessageRejected", 400, "SendingPausedException", 400),
    "set-paused": FaultRow(
        "ConfigurationSetSendingPausedException", 400, "SendingPausedException", 400
    ),
    "mail-from": FaultRow(_MAIL_FROM, 400, _MAIL_FROM, 400),
    "throttled": FaultRow("Throttling", 400, "TooManyRequestsException", 429),
    "no-quota-left": FaultRow("Throttling", 400, "LimitExceededException", 400),
    "unavailable": FaultRow("ServiceUnavailable", 503, "InternalServiceErrorException", 500),
    "internal": FaultRow("InternalFailure", 500, "InternalServiceErrorException", 500),
}

# Where SNS has another code than SES: those that its clients have an exception for.
_IN_SNS: Final[Mapping[str, str]] = {
    "invalid-value": "invalid-parameter",
    "bad-token": "invalid-parameter",
    "not-found": "no-sns-object",
    "access-denied": "sns-access-denied",
    "internal": "sns-internal",
}

OF_SIGNATURES: Final[Mapping[SignatureFault, str]] = {
    "missing": "no-signature",
    "incomplete": "bad-signature-form",
    "expired": "bad-signature",
    "scope": "bad-signature",
    "unknown-key": "unknown-key",
    "token": "unknown-key",
    "mismatch": "bad-signature",
}

# By the name of the reply in the catalogue; those of the upstream have none.
_OF_REPLIES: Final[Mapping[str, str]] = {
    "account-paused": "account-paused",
    "account-shutdown": "account-shutdown",
    "configuration-set-paused": "set-paused",
    "access-denied": "access-denied",
    "access-key-inactive": "unknown-key",
    "access-key-expired": "unknown-key",
    "network-not-allowed": "access-denied",
    "certificate-not-allowed": "unknown-key",
    "daily-quota": "no-quota-left",
    "send-rate": "throttled",
    "transaction-failed": "bad-message",
    "not-aligned": "invalid-value",
    "bad-sender": "invalid-value",
    "bad-recipient": "invalid-value",
    "too-many-recipients": "invalid-value",
    "too-long": "invalid-value",
    "mail-from-not-verified": "mail-from",
}
# Words that SMTP replies of SES begin with, and texts of its API do not.
_PREFIXES: Final = ("Message rejected: ", "Throttling failure: ", "Transaction failed: ")


class ApiError(Exception):
    """A call that fails: the name of its row in :data:`FAULTS`, and a text for the caller."""

    def __init__(self, fault: str, text: str) -> None:
        if fault not in FAULTS:
            raise ValueError(f"not a fault: {fault!r}")
        super().__init__(text)
        self.fault = fault


class RefusedByReplyError(ApiError):
    """A message that was refused with a reply of SMTP."""


LATER: Final = frozenset(
    {"throttled", "no-quota-left", "unavailable", "internal", "changed-meanwhile"}
)
"""The faults that are not of the call: the same one may succeed later."""


def row_of(fault: str, service: str) -> FaultRow:
    """The codes and statuses of a fault, in a service by the name that botocore gives it."""
    return FAULTS[_IN_SNS.get(fault, fault) if service == "sns" else fault]


def fault_of_reply(code: int, name: str, text: str) -> RefusedByReplyError:
    """The fault of a message that was refused with that SMTP reply.

    ``name`` is that of the reply in the catalogue, empty for the upstream's. A 4yz reply is an
    error after which clients try again.
    """
    fault = _OF_REPLIES.get(name) or ("unavailable" if code < 500 else "rejected")
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return RefusedByReplyError(fault, text)
