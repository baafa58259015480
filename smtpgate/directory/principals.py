"""The principals of a directory, found by name or read page by page.

The path of a message needs none of this: there a principal comes with its access key.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import select, tuple_

from smtpgate.core.account import Principal
from smtpgate.core.naming import user_key
from smtpgate.core.policy import PolicyError
from smtpgate.directory.load import IS_SHUTDOWN, PRINCIPAL_COLUMNS, Loader
from smtpgate.directory.schema import accounts, policies, reputations, users
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.asynchronous import AsyncConnection

_Row: TypeAlias = Any  # of a query: its columns are the query's
_UserRef: TypeAlias = tuple[str, str]  # an account's id, and a user's key or nothing

_PAGE: Final = 500
# A row for each user, and one for each account that has none.
_EVERYBODY: Final = (
    select(*PRINCIPAL_COLUMNS)
    .select_from(
        accounts.outerjoin(users, users.c.account_id == accounts.c.id).outerjoin(
            reputations, IS_SHUTDOWN
        )
    )
    .order_by(accounts.c.id, users.c.key)
)
_whose: Final = tuple_(
    policies.c.account_id, policies.c.kind, policies.c.region, policies.c.subject
)
_POLICIES: Final = (
    select(policies.c.account_id, policies.c.subject, policies.c.name, policies.c.document)
    .where(policies.c.kind == "user", policies.c.region == "")
    .order_by(policies.c.name)
)


def _user_ref(row: _Row) -> _UserRef:
    return row.account_id, user_key(row.user_name or "")


@dataclass(frozen=True, slots=True)
class DirectoryPrincipals:
    """The principals of a store; those found by name are cached."""

    store: DirectoryStore
    loader: Loader
    _known: dict[tuple[str, str | None], Principal | None] = field(default_factory=dict)

    async def one(self, account_id: str, user: str | None) -> Principal | None:
        """The user of an account by name or ARN, or the account's root without either.

        Raises DirectoryUnavailableError.
        """
        key = (account_id, user)
        if key not in self._known:
            self._known[key] = await self._one(account_id, user)
        return self._known[key]

    async def _one(self, account_id: str, user: str | None) -> Principal | None:
        query = _EVERYBODY.where(accounts.c.id == account_id).limit(1)
        if user is not None:
            query = query.where(users.c.key == user_key(user.rpartition("/")[2]))
        async with self.store.reading() as connection:
            row = (await connection.execute(query, self._place)).one_or_none()
            if row is None:
                return None
            if user is None:
                return self._root(row)
            (found,) = await self._compiled(connection, [row])
        return found if user in (found.user_name, found.arn) else None

    async def pages(self) -> AsyncIterator[Sequence[Principal]]:
        """Every account's root and every user, with or without access keys.

        Raises DirectoryUnavailableError.
        """
        user_ref: _UserRef = ("", "")
        while True:
            async with self.store.reading() as connection:
                rows = await self._rows(connection, *user_ref)
                of_users = await self._compiled(connection, rows)
            found: list[Principal] = []
            for row, principal in zip(rows, of_users, strict=True):
                if row.account_id != user_ref[0]:
                    found.append(self._root(row))
                if row.user_name is not None:
                    found.append(principal)
                user_ref = _user_ref(row)
            yield found
            if len(rows) < _PAGE:
                return

    async def _rows(
        self, connection: AsyncConnection, account_id: str, key: str
    ) -> Sequence[_Row]:
        """The rows of a page: the account's other users, then the accounts behind it.

        Two questions, for each of which an index has the answer in order.
        """
        others = _EVERYBODY.where(accounts.c.id == account_id, users.c.key > key).limit(_PAGE)
        rows = list((await connection.execute(others, self._place)).all())
        if len(rows) < _PAGE:
            behind = _EVERYBODY.where(accounts.c.id > account_id).limit(_PAGE - len(rows))
            rows += (await connection.execute(behind, self._place)).all()
        return rows

    @property
    def _place(self) -> dict[str, str]:
        return {"region": self.loader.region}

    def _root(self, row: _Row) -> Principal:
        return Principal.root(self.loader.account(row), self.loader.partition)

    async def _compiled(
        self, connection: AsyncConnection, rows: Sequence[_Row]
    ) -> list[Principal]:
        """The principal of each row, with its policies; the rows are in order."""
        if not rows:
            return []
        first, last = (
            (user_ref[0], "user", "", user_ref[1])
            for user_ref in (_user_ref(rows[0]), _user_ref(rows[-1]))
        )
        of_policies = await connection.execute(_POLICIES.where(_whose >= first, _whose <= last))
        found: defaultdict[_UserRef, list[_Row]] = defaultdict(list)
        for policy in of_policies:
            found[policy.account_id, policy.subject].append(policy)
        try:
            return [self.loader.principal(row, found[_user_ref(row)]) for row in rows]
        except PolicyError as error:
            raise DirectoryUnavailableError(f"a user policy cannot be used: {error}") from None
