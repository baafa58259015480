"""An access key as commands show it: for programs, and in a list."""

from typing import Final

from smtpgate.admin.keys import KeyDetails
from smtpgate.cli.listing import View


def key_fields(key: KeyDetails) -> dict[str, object]:
    """An access key as programs see it."""
    return {
        "id": key.id,
        "account": key.account_id,
        "user": key.user_name,
        "status": key.status,
        "expires_at": key.expires_at,
        "networks": list(key.networks),
        "certificates": list(key.certificates),
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "last_used_from": key.last_used_from,
        "watch": key.watch_state,
        "watch_reason": key.watch_reason,
        "watch_since": key.watch_since,
    }


key_view: Final[View[KeyDetails]] = View(
    columns={
        "access key": lambda key: key.id,
        "owner": lambda key: key.owner,
        "status": lambda key: key.status,
        "expires": lambda key: key.expires_at,
        "from": lambda key: key.networks,
        "created": lambda key: key.created_at,
        "last used": lambda key: key.last_used_at,
        "by": lambda key: key.last_used_from,
    },
    fields=key_fields,
    nothing="no access keys",
)
