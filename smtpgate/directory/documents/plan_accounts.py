"""Plans the steps for accounts and users, and puts all steps of a plan in order."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from smtpgate.core.naming import user_key
from smtpgate.directory.accounts import (
    AccountRow,
    add_accounts,
    remove_accounts,
    update_account,
)
from smtpgate.directory.change import AuditSubject, Change
from smtpgate.directory.documents.desired import DesiredAccount, DesiredUser
from smtpgate.directory.documents.fields import (
    account_key,
    fields_of_account,
    fields_of_user,
    identity_key,
    key_key,
    user_object_key,
)
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.documents.plan import Plan, Step
from smtpgate.directory.documents.plan_identities import identity_steps
from smtpgate.directory.documents.plan_keys import access_key_away, access_key_steps
from smtpgate.directory.documents.plan_limits import first_limits, limits_in_words, new_limits
from smtpgate.directory.documents.plan_parts import part_steps
from smtpgate.directory.documents.planning import (
    Order,
    Ordered,
    Planning,
    differences,
    joined,
    policy_steps,
    stated,
)
from smtpgate.directory.keys import AccessKeyRow
from smtpgate.directory.policies import PolicyOwner, PolicyRow, remove_policies
from smtpgate.directory.quotas import QuotaKey, QuotaWrite, write_quotas
from smtpgate.directory.users import UserRow, add_users, remove_users, update_user

_Changes: TypeAlias = Mapping[str, Any]
# The fields of a user that are no limits.
_FIELDS: Final = ("path", "tags")


def make_plan(planning: Planning) -> Plan:
    """The plan for the changes of the documents; nothing is read or changed for it.

    Raises DirectoryError with everything that the documents leave open, or that cannot be
    together with what the directory has.
    """
    steps = [
        *_account_steps(planning),
        *_user_steps(planning),
        *access_key_steps(planning),
        *identity_steps(planning),
        *part_steps(planning),
        # Last, because owners can only be deleted after their objects.
        *_users_away(planning),
        *_accounts_away(planning),
    ]
    if planning.problems:
        raise DirectoryError(planning.problems)
    # By sign too, so that many of one kind stand together and are done together.
    steps.sort(key=lambda ordered: (ordered[0], ordered[1].sign))
    return Plan(tuple(step for _, step in steps), tuple(planning.drift))


# -- accounts ----------------------------------------------------------------------------------


def _account_steps(planning: Planning) -> Iterator[Ordered]:
    there = planning.current.accounts
    for account in planning.desired.accounts:
        yield from _account(planning, account, there.get(account.id))


def _account(
    planning: Planning, account: DesiredAccount, row: AccountRow | None
) -> Iterator[Ordered]:
    key, wanted = account_key(account.id), fields_of_account(account)
    what = str(AuditSubject("account", account.id))
    columns = planning.columns(key, wanted)
    if row is None:
        if planning.makes(key, wanted, what):
            new = AccountRow(id=account.id, **wanted)
            yield Order.ACCOUNT, Step("+", what, new.name, add_accounts, new, columns)
    elif changes := planning.changes(key, wanted, what):
        words, item = differences(row, changes), (row, changes)
        yield Order.ACCOUNT, Step("~", what, words, _update_accounts, item, columns)


async def _update_accounts(
    change: Change, items: Sequence[tuple[AccountRow, _Changes]]
) -> None:
    for row, changes in items:
        await update_account(change, row.id, changes)


def _accounts_away(planning: Planning) -> Iterator[Ordered]:
    there = planning.current.accounts
    named = {account.id for account in planning.desired.accounts}
    not_empty = _with_belongings(planning) if planning.prune else frozenset()
    for account_id in sorted(there.keys() - named):
        row, key = there[account_id], account_key(account_id)
        what = str(row.subject)
        if not planning.prunes(key, what):
            continue
        if account_id in planning.current.elsewhere:
            planning.problems.append(
                f"{what}: no document names it, but it has identities in other regions; "
                f"delete those first"
            )
        if account_id in not_empty:
            planning.note_drift(key, what, "in no document, and not empty")
            continue
        columns = planning.columns(key)
        yield Order.ACCOUNT_AWAY, Step("-", what, row.name, remove_accounts, row, columns)


def _with_belongings(planning: Planning) -> frozenset[str]:
    """The accounts that have something that stays."""
    current, removed = planning.current, planning.removed
    return current.with_topics | frozenset(
        account_id
        for account_id, key in (
            *((account, user_object_key(account, name)) for account, name in current.users),
            *((row.account_id, key_key(row.id)) for row in current.access_keys.values()),
            *(
                (account, identity_key(account, planning.region, name))
                for account, name in current.identities
            ),
            *((key.account_id, key) for key in current.parts if key.kind in ("topic", "set")),
        )
        if key not in removed
    )


# -- users -------------------------------------------------------------------------------------


def _user_steps(planning: Planning) -> Iterator[Ordered]:
    there = planning.current.users
    for user in planning.desired.users:
        row = there.get((user.account_id, user_key(user.name)))
        if row is not None and row.name != user.name:
            planning.note(
                user.location,
                f"is in the directory as {row.name}; write it so, or delete that user first",
            )
        yield from _user(planning, user, row)
        owner = PolicyOwner.of_user(user.account_id, user.name)
        key = user_object_key(user.account_id, user.name)
        yield from policy_steps(planning, owner, key, user.policies, user.location)


def _user(planning: Planning, user: DesiredUser, row: UserRow | None) -> Iterator[Ordered]:
    key, wanted = user_object_key(user.account_id, user.name), fields_of_user(user)
    quota_key = QuotaKey.of_user(user.account_id, user.name)
    what, columns = (
        str(AuditSubject("user", user.account_id, user.name)),
        planning.columns(key, wanted),
    )
    if row is None:
        if planning.makes(key, wanted, what, account_key(user.account_id)):
            new = UserRow(
                account_id=user.account_id, name=user.name, path=user.path, tags=user.tags
            )
            made, how = (new, first_limits(quota_key, user.limits)), stated(asdict(user.limits))
            yield Order.USER, Step("+", what, how, _add_users, made, columns)
    elif found := planning.changes(key, wanted, what):
        changes: _Changes = {name: found[name] for name in _FIELDS if name in found}
        limits = new_limits(planning, quota_key, found)
        words, item = (
            joined(differences(row, changes), limits_in_words(limits)),
            (row, changes, limits),
        )
        yield Order.USER, Step("~", what, words, _update_users, item, columns)


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


def _users_away(planning: Planning) -> Iterator[Ordered]:
    """Users that no document names any more, with those of their access keys that are left."""
    there = planning.current.users
    named = {(user.account_id, user_key(user.name)) for user in planning.desired.users}
    keys: defaultdict[tuple[str, str], list[AccessKeyRow]] = defaultdict(list)
    for one in planning.current.access_keys.values() if planning.prune else ():
        if one.user_name is not None and key_key(one.id) not in planning.removed:
            keys[one.account_id, user_key(one.user_name)].append(one)
    for owner in sorted(there.keys() - named):
        row, key = there[owner], user_object_key(*owner)
        if not planning.prunes(key, str(row.subject)):
            continue
        yield from (access_key_away(planning, one) for one in keys[owner])
        its_policies = planning.current.policies_of(row.policies)
        how = f"with the policies {', '.join(its_policies)}" if its_policies else ""
        item, columns = (row, tuple(its_policies.values())), planning.columns(key)
        yield Order.USER_AWAY, Step("-", str(row.subject), how, _remove_users, item, columns)


async def _remove_users(
    change: Change, items: Sequence[tuple[UserRow, Sequence[PolicyRow]]]
) -> None:
    """With their limits and policies; their access keys have been taken away before."""
    found = [(row.policies, policy) for row, its_policies in items for policy in its_policies]
    await remove_policies(change, found)
    await remove_users(change, [row for row, _ in items])
