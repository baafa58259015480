"""A decision about what is kept of an identity, made again when somebody else was faster."""

from collections.abc import Awaitable, Callable
from typing import Final

from smtpgate.core.proof.registered import Registered
from smtpgate.ports import Registry

_TRIES: Final = 5


class OvertakenError(Exception):
    """Others changed an identity each time that it was to be changed."""


async def settled(
    registry: Registry,
    account_id: str,
    name: str,
    decide: Callable[[Registered], Awaitable[Registered]],
) -> Registered:
    """What is kept of the identity after the decision.

    Whatever ``decide`` raises leaves everything as it was. Raises OvertakenError.
    """
    for _ in range(_TRIES):
        before = await registry.one(account_id, name)
        after = await decide(before)
        if after == before or await registry.settle([(before, after)]):
            return after
    raise OvertakenError(f"identity {account_id}/{name} is being changed by others; try again")
