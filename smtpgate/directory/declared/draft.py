"""The documents against the directory as it is: what has to be done, in which order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from smtpgate.core.naming import user_key
from smtpgate.directory.accounts import (
    AccountRow,
    add_accounts,
    remove_accounts,
    update_account,
)
from smtpgate.directory.change import Change, Subject
from smtpgate.directory.declared.content import DeclaredAccount, DeclaredUser
from smtpgate.directory.declared.documents import DirectoryError
from smtpgate.directory.declared.draft_identities import identity_steps
from smtpgate.directory.declared.draft_keys import access_key_steps
from smtpgate.directory.declared.draft_limits import first_limits, limits_told, new_limits
from smtpgate.directory.declared.drafting import (
    Drafting,
    Order,
    Ordered,
    changed,
    differences,
    joined,
    policy_steps,
    stated,
)
from smtpgate.directory.declared.plan import Plan, Step
from smtpgate.directory.policies import PolicyPlace, PolicyRow, remove_policies
from smtpgate.directory.quotas import QuotaPlace, QuotaWrite, write_quotas
from smtpgate.directory.users import UserRow, add_users, remove_users, update_user

__all__ = ["draft"]

_Changes: TypeAlias = Mapping[str, Any]


def draft(drafting: Drafting) -> Plan:
    """The plan that makes the directory what is declared; nothing is read or changed for it.

    Raises DirectoryError with everything that the documents leave open, or that cannot be
    together with what the directory has.
    """
    steps = [
        *_account_steps(drafting),
        *_user_steps(drafting),
        *access_key_steps(drafting),
        *identity_steps(drafting),
    ]
    if drafting.problems:
        raise DirectoryError(drafting.problems)
    # By sign too, so that many of one kind stand together and are done together.
    steps.sort(key=lambda ordered: (ordered[0], ordered[1].sign))
    return Plan(tuple(step for _, step in steps))


# -- accounts ----------------------------------------------------------------------------------


def _account_steps(drafting: Drafting) -> Iterator[Ordered]:
    there = drafting.present.accounts
    for account in drafting.declared.accounts:
        yield from _account(account, there.get(account.id))
    if not drafting.prune:
        return
    for account_id in sorted(there.keys() - {one.id for one in drafting.declared.accounts}):
        row = there[account_id]
        if account_id in drafting.present.elsewhere:
            drafting.problems.append(
                f"{row.subject}: no document names it, but it has identities in other regions; "
                f"delete those first"
            )
        yield Order.ACCOUNT_AWAY, Step("-", str(row.subject), row.name, remove_accounts, row)


def _account(account: DeclaredAccount, row: AccountRow | None) -> Iterator[Ordered]:
    wanted: dict[str, Any] = {
        "name": account.name,
        "organization_id": account.organization_id,
        "paused_reason": account.pause.after(row.paused_reason if row else None),
        "max_24h_send": account.max_24h_send,
        "max_send_rate_per_s": account.max_send_rate_per_s,
    }
    what = str(Subject("account", account.id))
    if row is None:
        new = AccountRow(id=account.id, **wanted)
        yield Order.ACCOUNT, Step("+", what, new.name, add_accounts, new)
    elif changes := changed(row, wanted):
        told = differences(row, changes)
        yield Order.ACCOUNT, Step("~", what, told, _update_accounts, (row, changes))


async def _update_accounts(
    change: Change, items: Sequence[tuple[AccountRow, _Changes]]
) -> None:
    for row, changes in items:
        await update_account(change, row.id, changes)


# -- users -------------------------------------------------------------------------------------


def _user_steps(drafting: Drafting) -> Iterator[Ordered]:
    there = drafting.present.users
    for user in drafting.declared.users:
        row = there.get((user.account_id, user_key(user.name)))
        if row is not None and row.name != user.name:
            drafting.note(
                user.place,
                f"is in the directory as {row.name}; write it so, or delete that user first",
            )
        yield from _user(drafting, user, row)
        owner = PolicyPlace.of_user(user.account_id, user.name)
        yield from policy_steps(drafting, owner, user.policies, user.place)
    if not drafting.prune:
        return
    named = {(user.account_id, user_key(user.name)) for user in drafting.declared.users}
    for key in sorted(there.keys() - named):
        row = there[key]
        its_policies = drafting.present.policies_of(row.policies)
        how = f"with the policies {', '.join(its_policies)}" if its_policies else ""
        item = (row, tuple(its_policies.values()))
        yield Order.USER_AWAY, Step("-", str(row.subject), how, _remove_users, item)


def _user(drafting: Drafting, user: DeclaredUser, row: UserRow | None) -> Iterator[Ordered]:
    place = QuotaPlace.of_user(user.account_id, user.name)
    if row is None:
        new = UserRow(
            account_id=user.account_id, name=user.name, path=user.path, tags=user.tags
        )
        made, how = (new, first_limits(place, user.limits)), stated(asdict(user.limits))
        yield Order.USER, Step("+", str(new.subject), how, _add_users, made)
        return
    changes = changed(row, {"path": user.path, "tags": dict(user.tags)})
    limits = new_limits(drafting, place, user.limits)
    if told := joined(differences(row, changes), limits_told(limits)):
        item = (row, changes, limits)
        yield Order.USER, Step("~", str(row.subject), told, _update_users, item)


async def _add_users(change: Change, items: Sequence[tuple[UserRow, QuotaWrite]]) -> None:
    await add_users(change, [row for row, _ in items])
    await write_quotas(change, [limits for _, limits in items])


async def _update_users(
    change: Change, items: Sequence[tuple[UserRow, _Changes, QuotaWrite]]
) -> None:
    for row, changes, _ in items:
        if changes:
            await update_user(change, row.account_id, row.name, changes)
    await write_quotas(change, [limits for _, _, limits in items])


async def _remove_users(
    change: Change, items: Sequence[tuple[UserRow, Sequence[PolicyRow]]]
) -> None:
    """With their limits and policies; their access keys have been taken away before."""
    found = [(row.policies, policy) for row, its_policies in items for policy in its_policies]
    await remove_policies(change, found)
    await remove_users(change, [row for row, _ in items])
