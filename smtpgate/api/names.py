"""Names in calls: identities by their name or ARN, and the errors of the use cases."""

from collections.abc import Mapping
from typing import Final

from smtpgate.admin import errors
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.templates import InvalidTemplateError
from smtpgate.api.call import Call
from smtpgate.core.api.faults import ApiError
from smtpgate.core.arn import ArnError, IdentityArn, identity_name
from smtpgate.core.proof.dkim_stages import StageError

# The most specific class comes first.
_FAULTS: Final[Mapping[type[Exception], str]] = {
    errors.NotAuthorizedError: "access-denied",
    errors.PolicyFindingsError: "invalid-policy",
    InvalidTemplateError: "invalid-template",
    errors.NotFoundError: "not-found",
    errors.ConflictError: "already-exists",
    errors.RefusedChangeError: "invalid-value",
    errors.OvertakenError: "changed-meanwhile",
    errors.InvalidQuestionError: "invalid-value",
    errors.CodeRefusedError: "invalid-value",
    errors.ConfirmationNotSentError: "invalid-value",
    StageError: "invalid-value",
}


def own_identity(call: Call, text: str) -> IdentityRef:
    """The identity of the caller's account with that name, or with that ARN.

    An ARN of another account stays one: the use case decides. Raises ApiError.
    """
    try:
        if text.startswith("arn:"):
            arn = IdentityArn.parse(text)
            return IdentityRef(arn.account_id, arn.name, arn)
        return IdentityRef(call.account_id, identity_name(text))
    except ArnError:
        raise ApiError(
            "invalid-value",
            f"Invalid identity <{text[:200]}>: an address or a domain is wanted.",
        ) from None


def api_error(error: Exception) -> ApiError:
    """The fault that an error of a use case is."""
    for kind, fault in _FAULTS.items():
        if isinstance(error, kind):
            return ApiError(fault, str(error))
    return ApiError("unavailable", "The service is not available, try again later.")
