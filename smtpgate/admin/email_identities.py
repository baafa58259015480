"""Identities made whole, as by version 2 of SES's API: with DKIM, a default set and tags."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from smtpgate.admin.easy_dkim import (
    DkimSettings,
    easy_keys,
    own_key,
    put_easy_keys,
    put_own_key,
    read_settings,
)
from smtpgate.admin.errors import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.admin.identities import IdentityDetails, details_of
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.tag import read_tags
from smtpgate.directory.configuration_sets import configuration_set
from smtpgate.directory.identities import (
    IdentityRow,
    create_identity,
    identity,
    update_identity,
)
from smtpgate.directory.rows import refusing
from smtpgate.directory.tags import Tagged, put_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIdentity:
    """All that an identity has from its beginning.

    ``signing_key`` is the selector and the private key that its owner brings; a domain without
    one has Easy DKIM.
    """

    signing_key: tuple[str, str] | None = field(default=None, repr=False)
    configuration_set: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


async def create(
    session: Session,
    ref: IdentityRef,
    new: NewIdentity,
    before_new_keys: Callable[[], None] = lambda: None,
) -> tuple[IdentityDetails, DkimSettings]:
    """Register a domain or an address with all that it is to have, or not at all.

    ``before_new_keys`` may raise what the caller is to get in place of new keys. Raises
    ConflictError, NotFoundError for the configuration set, RefusedChangeError.
    """
    arn = session.identity_arn(ref)
    kind = "Domain" if ref.is_domain else "Address"
    session.must_be_allowed(f"Create{kind}Identity", arn)
    if new.tags:
        session.must_be_allowed("TagResource", arn)
    with refusing("Tags"):
        read_tags(new.tags.items())
    if new.signing_key and not ref.is_domain:
        raise RefusedChangeError(f"{ref.name} is an address: only a domain has a signing key")
    brought = await own_key(session, *new.signing_key) if new.signing_key else None
    made: Mapping[str, bytes] = {}
    if ref.is_domain and brought is None:
        await _must_be_new(session, ref)  # before keys are made for nothing
        before_new_keys()
        made = await easy_keys()
    row = IdentityRow(account_id=ref.account_id, region=session.region, name=ref.name)
    async with session.changing() as change:
        row = await create_identity(change, row, session.partition)
        if brought is not None:
            row = await put_own_key(session, change, row, brought)
        elif row.is_domain:
            row = await put_easy_keys(session, change, row, made)
        if new.configuration_set:
            name, place = new.configuration_set, (row.account_id, row.region)
            _ = await configuration_set(change.connection, *place, name)
            columns = {"configuration_set": name}
            row = await update_identity(change, row, columns, action="set-configuration-set")
        if new.tags:
            await put_tags(change, Tagged(*row.key[:2], "identity", row.name), new.tags)
    return details_of(session, row), await read_settings(session, ref)


async def _must_be_new(session: Session, ref: IdentityRef) -> None:
    async with session.store.reading() as connection:
        try:
            row = await identity(connection, ref.account_id, session.region, ref.name)
        except NotFoundError:
            return
    raise ConflictError(f"{row.subject} exists already")
