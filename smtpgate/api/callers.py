"""The caller by itself: the operations of STS and IAM that clients of SES begin with.

Terraform asks IAM for the user, and STS if that is refused, to learn the account.
https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetUser.html
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from smtpgate.admin import users
from smtpgate.admin.refs import UserRef
from smtpgate.api.call import Call, Handler, Values

# IAM has a date for everything; an account's root has none here.
_NO_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def caller_identity(call: Call) -> Values:
    """The caller; nobody needs a right for that."""
    principal = call.principal
    return {"UserId": principal.user_id, "Account": call.account_id, "Arn": principal.arn}


async def user(call: Call) -> Values:
    """A user of the account; without a name it is the caller."""
    principal = call.principal
    name = call.text("UserName") or principal.user_name
    if name is None:
        return {
            "User": {
                "Path": "/",
                "UserName": "root",
                "UserId": principal.user_id,
                "Arn": principal.arn,
                "CreateDate": _NO_DATE,
            }
        }
    found = await users.get(call.session(), UserRef(call.account_id, name))
    return {
        "User": {
            "Path": found.path,
            "UserName": found.name,
            "UserId": found.unique_id,
            "Arn": found.arn,
            "CreateDate": found.created_at or _NO_DATE,
            "Tags": [{"Key": key, "Value": value} for key, value in found.tags.items()],
        }
    }


STS: Final[Mapping[str, Handler]] = {"GetCallerIdentity": caller_identity}
IAM: Final[Mapping[str, Handler]] = {"GetUser": user}
