"""The account's suppression list, and the reasons for which it is used; of version 2 alone.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_PutSuppressedDestination.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from smtpgate.admin import suppression
from smtpgate.admin.errors import NotFoundError
from smtpgate.admin.suppression import AddressFilter
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.paging import after_of, page_of, size_of
from smtpgate.core.api.faults import ApiError
from smtpgate.core.suppression.lists import ALL_REASONS, Reasons, SuppressedAddress


def reasons_given(values: Values) -> Reasons:
    """The reasons that a call names, none if it names none. Raises ApiError."""
    given: Sequence[str] = values.get("SuppressedReasons") or ()
    for one in given:
        if one not in ALL_REASONS:
            wanted = ", ".join(ALL_REASONS)
            text = f"Invalid suppression reason <{one[:100]}>: it is one of {wanted}."
            raise ApiError("invalid-value", text)
    return tuple(one for one in ALL_REASONS if one in given)


def must_not_validate(values: Values) -> None:
    """Refuse to have addresses checked before mail is sent to them. Raises ApiError."""
    wanted = (values.get("ValidationAttributes") or values.get("ValidationOptions")) or {}
    threshold = wanted.get("ConditionThreshold") or {}
    if threshold.get("ConditionThresholdEnabled") == "ENABLED":
        raise ApiError("invalid-value", "The validation of email addresses is not supported.")


async def put(call: Call) -> Values:
    """Add an address to the account's list, or change its reason."""
    (reason,) = reasons_given({"SuppressedReasons": [call.text("Reason")]})
    address = call.text("EmailAddress")
    await suppression.put(call.session(), call.account_id, address, reason)
    return {}


async def get(call: Call) -> Values:
    """The entry of an address."""
    address = call.text("EmailAddress")
    with as_fault(NotFoundError, _missing(address)):
        entry = await suppression.get(call.session(), call.account_id, address)
    found: dict[str, Any] = _summary(entry)
    if entry.message_id:
        found["Attributes"] = {"MessageId": entry.message_id}
    return {"SuppressedDestination": found}


async def list_page(call: Call) -> Values:
    """The entries of the account's list by their addresses."""
    size = size_of(call, "PageSize")
    reasons = reasons_given({"SuppressedReasons": call.values.get("Reasons")})
    wanted = AddressFilter(
        reason=reasons[0] if len(reasons) == 1 else None,
        since=call.values.get("StartDate"),
        until=call.values.get("EndDate"),
    )
    pages = suppression.pages(
        call.session(), call.account_id, wanted, after=after_of(call), limit=size + 1
    )
    found, token = await page_of(pages, size, lambda entry: entry.address)
    return {
        "SuppressedDestinationSummaries": [_summary(entry) for entry in found],
        "NextToken": token,
    }


async def delete(call: Call) -> Values:
    """Remove an address from the account's list."""
    address = call.text("EmailAddress")
    with as_fault(NotFoundError, _missing(address)):
        await suppression.remove(call.session(), call.account_id, address)
    return {}


async def put_attributes(call: Call) -> Values:
    """Set for which reasons the list is used; without any it is not."""
    must_not_validate(call.values)
    await suppression.set_reasons(call.session(), call.account_id, reasons_given(call.values))
    return {}


def _summary(entry: SuppressedAddress) -> dict[str, Any]:
    return {
        "EmailAddress": entry.address,
        "Reason": entry.reason,
        "LastUpdateTime": entry.added_at,
    }


def _missing(address: str) -> ApiError:
    text = f"Email address {address[:320]} does not exist on your suppression list."
    return ApiError("not-found", text)


V2: Final[Mapping[str, Handler]] = {
    "PutSuppressedDestination": put,
    "GetSuppressedDestination": get,
    "ListSuppressedDestinations": list_page,
    "DeleteSuppressedDestination": delete,
    "PutAccountSuppressionAttributes": put_attributes,
}
