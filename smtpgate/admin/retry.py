"""A change of an identity, decided again when another process changed it meanwhile."""

from collections.abc import Awaitable, Callable
from typing import Final

from smtpgate.admin.errors import OvertakenError
from smtpgate.core.proof.registered import Registered
from smtpgate.ports import RegisteredIdentities

_ATTEMPTS: Final = 5


async def change_registered(
    registry: RegisteredIdentities,
    account_id: str,
    name: str,
    decide: Callable[[Registered], Awaitable[Registered]],
) -> Registered:
    """Save what ``decide`` makes of the identity, and return it.

    If ``decide`` raises, nothing is changed. Raises OvertakenError.
    """
    for _ in range(_ATTEMPTS):
        before = await registry.one(account_id, name)
        after = await decide(before)
        if after == before or await registry.save([(before, after)]):
            return after
    raise OvertakenError(
        f"identity {account_id}/{name} is being changed by other processes; try again"
    )
