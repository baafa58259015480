"""Users: the persons and programs that act for an account."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import TypedDict

from smtpgate.admin.errors import NotFoundError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import UserRef
from smtpgate.admin.session import Session
from smtpgate.directory import users as rows
from smtpgate.directory.keys import access_key_page
from smtpgate.directory.policies import policies_of
from smtpgate.directory.users import UserRow


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDetails:
    """A user."""

    account_id: str
    name: str
    path: str
    arn: str
    tags: Mapping[str, str]
    unique_id: str
    created_at: datetime | None


class UserSettings(TypedDict, total=False):
    """The settings of a user that can be changed."""

    path: str
    tags: Mapping[str, str]


def _details(session: Session, row: UserRow) -> UserDetails:
    return UserDetails(
        account_id=row.account_id,
        name=row.name,
        path=row.path,
        arn=session.user_arn(row.account_id, row.name, row.path),
        tags=row.tags,
        unique_id=row.unique_id,
        created_at=row.created_at,
    )


async def must_be_allowed_for_user(
    session: Session, ref: UserRef, operations: Sequence[str]
) -> UserRow:
    """Check the rights to operations on a user, and return the user.

    It must be looked up, because its ARN has its path and its name as it was created. A caller
    of another account is refused without a look. Raises NotAuthorizedError, and NotFoundError
    if there is no such user and the caller may know that.
    """
    arn = session.user_arn(ref.account_id, ref.name)
    for operation in operations:
        session.must_own(operation, arn)
    async with session.store.reading() as connection:
        try:
            row = await rows.user(connection, ref.account_id, ref.name)
        except NotFoundError:
            for operation in operations:
                session.must_be_allowed(operation, arn)
            raise
    for operation in operations:
        session.must_be_allowed(operation, session.user_arn(row.account_id, row.name, row.path))
    return row


async def create(
    session: Session, ref: UserRef, settings: UserSettings, *, may_send: bool = True
) -> UserDetails:
    """Add a user, by default with a policy that lets it send what owners allow."""
    row = UserRow(account_id=ref.account_id, name=ref.name, **settings)
    arn = session.user_arn(row.account_id, row.name, row.path)
    session.must_be_allowed("CreateUser", arn)
    if row.tags:
        session.must_be_allowed("TagUser", arn)
    if may_send:
        session.must_be_allowed("PutUserPolicy", arn)
    async with session.changing() as change:
        return _details(session, await rows.create_user(change, row, may_send=may_send))


async def pages(
    session: Session,
    account_id: str | None = None,
    *,
    search: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> AsyncIterator[Sequence[UserDetails]]:
    """Users by account and name, of one account or all; ``search`` is a part of a name.

    ``after`` is the account and the name, in lower case, behind which to begin.
    """
    account_id = session.account_to_list(
        "ListUsers", account_id, lambda own: session.user_arn(own, "*")
    )

    read = partial(rows.user_page, account_id=account_id, search=search)
    async for page in rows_in_pages(
        session, read, after, attrgetter("account_id", "key"), limit
    ):
        yield [_details(session, row) for row in page]


async def get(session: Session, ref: UserRef) -> UserDetails:
    """A user."""
    return _details(session, await must_be_allowed_for_user(session, ref, ["GetUser"]))


async def update(session: Session, ref: UserRef, settings: UserSettings) -> UserDetails:
    """Change a user's path, and with it its ARN; or replace its tags."""
    operations = ["UpdateUser"] if "path" in settings else []
    if "tags" in settings:
        operations += ["TagUser", "UntagUser"]
    before = await must_be_allowed_for_user(session, ref, operations)
    if "path" in settings:
        arn = session.user_arn(before.account_id, before.name, settings["path"])
        session.must_be_allowed("UpdateUser", arn)
    async with session.changing() as change:
        row = await rows.update_user(change, ref.account_id, ref.name, settings)
    return _details(session, row)


async def delete(session: Session, ref: UserRef) -> None:
    """Delete a user with its access keys and policies.

    The caller needs the right to delete those too: else it could take a policy away that it may
    not take away, by deleting the user and creating it again.
    """
    before = await must_be_allowed_for_user(session, ref, ["DeleteUser"])
    arn = session.user_arn(before.account_id, before.name, before.path)
    async with session.changing() as change:
        if await policies_of(change.connection, before.policies):
            session.must_be_allowed("DeleteUserPolicy", arn)
        if await access_key_page(change.connection, before.account_id, user_name=before.name):
            session.must_be_allowed("DeleteAccessKey", arn)
        await rows.delete_user(change, ref.account_id, ref.name)
