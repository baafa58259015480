"""The caller's account: whether it sends, how much it may, what it says of itself.

https://docs.aws.amazon.com/ses/latest/APIReference/API_GetAccountSendingEnabled.html
https://docs.aws.amazon.com/ses/latest/APIReference/API_GetSendStatistics.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetAccount.html

An account has a switch of its own. While operators have paused it, or it is paused for its
rates, it does not send whatever its switch is, and the answers say so.
"""

from collections.abc import Mapping
from typing import Any, Final

from smtpgate.admin import accounts, statistics, suppression
from smtpgate.admin.accounts import AccountDetails
from smtpgate.api.call import Call, Handler, Values
from smtpgate.api.quota import send_quota

_DETAILS: Final = (
    "MailType",
    "WebsiteURL",
    "ContactLanguage",
    "UseCaseDescription",
    "AdditionalContactEmailAddresses",
)


async def is_sending(call: Call) -> Values:
    """True while nothing stops the account (v1)."""
    return {"Enabled": await accounts.may_send(call.session(), call.account_id)}


async def set_sending(call: Call) -> Values:
    """Turn the account's own switch; a value that is absent turns it off, as at AWS."""
    name = "Enabled" if call.service == "ses" else "SendingEnabled"
    wanted = bool(call.values.get(name))
    await accounts.set_sending(call.session(), call.account_id, is_sending=wanted)
    return {}


async def send_statistics(call: Call) -> Values:
    """The sums of each 15 minutes of the last two weeks (v1)."""
    points = await statistics.send_statistics(await call.journal_session())
    return {
        "SendDataPoints": [
            {
                "Timestamp": one.timestamp,
                "DeliveryAttempts": one.delivery_attempts,
                "Bounces": one.bounces,
                "Complaints": one.complaints,
                "Rejects": one.rejects,
            }
            for one in points
        ]
    }


async def get(call: Call) -> Values:
    """The account with its limits and settings (v2)."""
    session, account_id = call.session(), call.account_id
    details, _ = await accounts.get(session, account_id)
    its = await suppression.settings(session, account_id)
    found: dict[str, Any] = {
        "DedicatedIpAutoWarmupEnabled": False,
        "EnforcementStatus": _enforcement_status(details),
        "ProductionAccessEnabled": True,
        "SendQuota": await send_quota(call),
        "SendingEnabled": await accounts.may_send(session, account_id),
        "SuppressionAttributes": {"SuppressedReasons": list(its.reasons)},
    }
    if details.details is not None:
        found["Details"] = details.details
    return found


def _enforcement_status(details: AccountDetails) -> str | None:
    """The status of its rates; an account that operators have paused is shut down too."""
    return "SHUTDOWN" if details.status == "paused" else details.enforcement_status


async def put_details(call: Call) -> Values:
    """Keep what the account says of its mail (v2).

    There is no sandbox, so ``ProductionAccessEnabled`` has nothing to ask for.
    """
    given = {name: call.values[name] for name in _DETAILS if call.values.get(name)}
    await accounts.put_details(call.session(), call.account_id, given)
    return {}


V1: Final[Mapping[str, Handler]] = {
    "GetAccountSendingEnabled": is_sending,
    "UpdateAccountSendingEnabled": set_sending,
    "GetSendStatistics": send_statistics,
}
V2: Final[Mapping[str, Handler]] = {
    "GetAccount": get,
    "PutAccountSendingAttributes": set_sending,
    "PutAccountDetails": put_details,
}
