"""The sending limits of an account: GetSendQuota, and what it has in common with GetAccount.

https://docs.aws.amazon.com/ses/latest/APIReference/API_GetSendQuota.html
"""

from collections.abc import Mapping
from typing import Final

from smtpgate.api.call import Call, Handler, Values
from smtpgate.core.api.faults import ApiError
from smtpgate.core.limits import Charge, Subject
from smtpgate.ports import LedgerUnavailableError


async def send_quota(call: Call) -> Values:
    """The limits of the caller's account, and what it has sent in 24 hours."""
    session = call.session()
    session.must_be_allowed("GetQuota", session.account_arn(call.account_id))
    limits = call.principal.account.limits.at(call.at)
    charge = Charge(Subject(call.account_id), limits)
    try:
        (status,) = await call.parts.ledger.limit_statuses([charge], call.at)
    except LedgerUnavailableError:
        raise ApiError("unavailable", "The limits cannot be read, try again later.") from None
    return {
        "Max24HourSend": float(limits.max_24h_send),
        "MaxSendRate": float(limits.max_send_rate_per_s),
        "SentLast24Hours": float(status.used_24h),
    }


V1: Final[Mapping[str, Handler]] = {"GetSendQuota": send_quota}
V2: Final[Mapping[str, Handler]] = {}
