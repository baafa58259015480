"""Functions that find the owner of policies, in the transaction that reads or changes them."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from smtpgate.directory.identities import identity
from smtpgate.directory.policies import PolicyOwner
from smtpgate.directory.users import user
from smtpgate.sql.asynchronous import AsyncConnection

# Raises NotFoundError when there is no owner of that name.
FindPolicyOwner: TypeAlias = Callable[[AsyncConnection], Awaitable[PolicyOwner]]


def policies_of_user(account_id: str, name: str) -> FindPolicyOwner:
    """A function that finds a user as the owner of policies."""

    async def find(connection: AsyncConnection) -> PolicyOwner:
        return (await user(connection, account_id, name)).policies

    return find


def policies_of_identity(
    account_id: str, region: str, name: str, partition: str
) -> FindPolicyOwner:
    """A function that finds an identity as the owner of policies."""

    async def find(connection: AsyncConnection) -> PolicyOwner:
        return (await identity(connection, account_id, region, name)).policies(partition)

    return find
