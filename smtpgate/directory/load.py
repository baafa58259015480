"""Objects that the path of a message asks for, read from the database and compiled.

An answer is read in one transaction, so it is never half of a change, and then compiled:
policies parsed, secrets opened, private keys loaded. An object that cannot be compiled fails as
a whole; the directory is then unavailable for that name, and nothing is allowed by what is left
of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

from msgspec.structs import replace
from sqlalchemy import BindParameter, Select, and_, bindparam, exists, select, union_all

from smtpgate.core.account import UNLIMITED, AccessKey, Account, Principal, SendingLimits
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.identity import DkimKey, Identity, MailFrom
from smtpgate.core.naming import certificate_pin
from smtpgate.core.policy import Policy, PolicyKind, parse_policy
from smtpgate.core.policy.values import as_network
from smtpgate.core.secret import Secret
from smtpgate.directory.cache import Dependency
from smtpgate.directory.dkim import private_key_context
from smtpgate.directory.keys import secret_context
from smtpgate.directory.quotas import QUOTA_COLUMNS, QuotaKind, account_limits, limits_in
from smtpgate.directory.reputations import paused_delegates
from smtpgate.directory.schema import (
    access_keys,
    accounts,
    dkim_keys,
    identities,
    mail_from_domains,
    policies,
    quotas,
    reputations,
    suppression_settings,
    users,
)
from smtpgate.directory.sealing import MasterKeys
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import load_private_key
from smtpgate.sql.asynchronous import AsyncConnection

T = TypeVar("T")
_NOBODY: Final[Mapping[str, Any]] = MappingProxyType({})
_Row: TypeAlias = Any  # of a query: its columns are the query's

# What the compiled form takes in memory, as tests/bench/large_directory.py measures it: so much
# for an entry, and so many times the text of its policies.
_ENTRY_OCTETS: Final = 1_200
_PRIVATE_KEY_OCTETS: Final = {"ed25519-sha256": 700, "rsa-sha256": 25_000}
_OCTETS_PER_POLICY_OCTET: Final = 12
_ADDRESS_OCTETS: Final = 140
_CAP_OCTETS: Final = 350
_PAUSE_OCTETS: Final = 300
_MAX_ADDRESSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """An answer, the objects that it depends on, and its approximate size in octets."""

    value: T
    depends_on: tuple[Dependency, ...]
    octets: int


@dataclass(frozen=True, slots=True)
class KeyRows:
    """An access key with all that it leads to, as read."""

    key: _Row
    policies: Sequence[_Row]
    quotas: Sequence[_Row]

    @property
    def policy_octets(self) -> int:
        """The amount of text to compile."""
        return sum(len(row.document) for row in self.policies)


@dataclass(frozen=True, slots=True)
class IdentityRows:
    """The identities of a name with all that belongs to them, as read.

    ``paused`` has the pauses of delegates by the owner.
    """

    identities: Sequence[_Row]
    policies: Sequence[_Row]
    dkim_keys: Sequence[_Row]
    caps: Sequence[_Row]
    paused: Mapping[str, Mapping[str, str]]

    @property
    def policy_octets(self) -> int:
        """The amount of text to compile."""
        return sum(len(row.document) for row in self.policies)


PRINCIPAL_COLUMNS: Final = (
    users.c.name.label("user_name"),
    users.c.path,
    users.c.tags,
    users.c.unique_id,
    accounts.c.id.label("account_id"),
    accounts.c.name.label("account_name"),
    accounts.c.organization_id,
    accounts.c.paused_reason,
    accounts.c.is_sending.label("account_is_sending"),
    accounts.c.max_24h_send,
    accounts.c.max_send_rate_per_s,
    reputations.c.paused_reason.label("shutdown_reason"),
)
# Joins an account's automatic pause, in the region that the query is executed with.
IS_SHUTDOWN: Final = and_(
    reputations.c.account_id == accounts.c.id,
    reputations.c.kind == "account",
    reputations.c.region == bindparam("region"),
)
_HAS_SUPPRESSED: Final = exists().where(
    suppression_settings.c.account_id == access_keys.c.account_id,
    suppression_settings.c.region == bindparam("region"),
    suppression_settings.c.has_addresses,
)
_KEY: Final = (
    select(
        _HAS_SUPPRESSED.label("has_suppressed"),
        access_keys.c.id,
        access_keys.c.user_key,
        access_keys.c.secret,
        access_keys.c.is_active,
        access_keys.c.expires_at,
        access_keys.c.networks,
        access_keys.c.certificates,
        access_keys.c.watch_state,
        access_keys.c.slowed_to_per_s,
        *PRINCIPAL_COLUMNS,
    )
    .join(accounts, accounts.c.id == access_keys.c.account_id)
    .outerjoin(
        users,
        (users.c.account_id == access_keys.c.account_id)
        & (users.c.key == access_keys.c.user_key),
    )
    .outerjoin(reputations, IS_SHUTDOWN)
)
_POLICY: Final = select(
    policies.c.account_id, policies.c.subject, policies.c.name, policies.c.document
).order_by(policies.c.name)
_IDENTITY: Final = (
    select(
        identities.c.account_id,
        identities.c.name,
        identities.c.state,
        identities.c.paused_reason,
        identities.c.configuration_set,
        identities.c.suppresses_delegates,
        identities.c.dkim_enabled,
        mail_from_domains.c.domain.label("mail_from"),
        mail_from_domains.c.state.label("mail_from_state"),
        mail_from_domains.c.on_mx_failure,
    )
    .outerjoin(
        mail_from_domains,
        (mail_from_domains.c.account_id == identities.c.account_id)
        & (mail_from_domains.c.region == identities.c.region)
        & (mail_from_domains.c.identity == identities.c.name),
    )
    .order_by(identities.c.created_at, identities.c.account_id)
)
_SIGNING_KEY: Final = (
    select(
        dkim_keys.c.account_id,
        dkim_keys.c.region,
        dkim_keys.c.domain,
        dkim_keys.c.selector,
        dkim_keys.c.private_key,
    )
    .where(dkim_keys.c.stage == "active")
    .order_by(dkim_keys.c.since, dkim_keys.c.selector)
)


def _quota_of(kind: QuotaKind, subject: str | BindParameter[str]) -> Select[Any]:
    """By the whole primary key: an account may have very many."""
    return select(quotas.c.kind, *QUOTA_COLUMNS).where(
        quotas.c.account_id == bindparam("account"),
        quotas.c.kind == kind,
        quotas.c.region == "",
        quotas.c.subject == subject,
        quotas.c.delegate_id == "",
    )


_QUOTAS: Final = union_all(
    _quota_of("account", ""),
    _quota_of("user", bindparam("user")),
    _quota_of("key", bindparam("key")),
)
_CAP: Final = select(quotas.c.account_id, quotas.c.delegate_id, *QUOTA_COLUMNS).where(
    quotas.c.kind == "identity"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Reads and compiles, with the settings of the configuration."""

    region: str
    partition: str
    default_limits: SendingLimits
    address_tag_idiom: bool
    master_keys: MasterKeys

    @classmethod
    def of(
        cls, store: DirectoryStore, default_limits: SendingLimits, *, address_tag_idiom: bool
    ) -> Self:
        """The loader of that store's directory."""
        return cls(
            region=store.region,
            partition=store.partition,
            default_limits=default_limits,
            address_tag_idiom=address_tag_idiom,
            master_keys=store.master_keys,
        )

    # -- access keys ---------------------------------------------------------------------------

    async def read_key(self, connection: AsyncConnection, key_id: str) -> KeyRows | None:
        """The rows of an access key, or none."""
        query = _KEY.where(access_keys.c.id == key_id)
        found = await connection.execute(query, {"region": self.region})
        row = found.one_or_none()
        if row is None:
            return None
        if row.user_key is None:
            return KeyRows(row, (), await self._quotas(connection, row))
        policy_query = _POLICY.where(
            policies.c.account_id == row.account_id,
            policies.c.kind == "user",
            policies.c.region == "",
            policies.c.subject == row.user_key,
        )
        of_policies = (await connection.execute(policy_query)).all()
        return KeyRows(row, of_policies, await self._quotas(connection, row))

    async def _quotas(self, connection: AsyncConnection, row: _Row) -> Sequence[_Row]:
        whose = {"account": row.account_id, "user": row.user_key or "", "key": row.id}
        return (await connection.execute(_QUOTAS, whose)).all()

    def compile_key(self, rows: KeyRows) -> Loaded[AccessKey]:
        """The access key and its principal. Raises SealError, PolicyError, ValueError."""
        row = rows.key
        if row.user_key is not None and row.user_name is None:
            raise ValueError("its user is not there")  # and it is not the root's
        secret = Secret(self.master_keys.open(row.secret, secret_context(row.id)).decode())
        of = {quota.kind: quota for quota in rows.quotas}
        principal = self.principal(row, rows.policies, of)
        if row.has_suppressed:
            account = replace(principal.account, has_suppressed=True)
            principal = replace(principal, account=account)
        key = AccessKey(
            row.id,
            secret,
            principal,
            row.is_active,
            row.expires_at,
            tuple(as_network(ip_network(text)) for text in row.networks),
            _key_limits(row, limits_in(of.get("key"))),
            row.watch_state == "suspended",
            tuple(certificate_pin(text) for text in row.certificates),
        )
        octets = _ENTRY_OCTETS + _OCTETS_PER_POLICY_OCTET * rows.policy_octets
        return Loaded(key, tuple(_dependencies(row)), octets)

    def principal(
        self, row: _Row, policy_rows: Iterable[_Row], quotas_of: Mapping[str, _Row] = _NOBODY
    ) -> Principal:
        """The user of such a row, or the account's root when it names none.

        ``quotas_of`` has the account's and the user's, by these words.
        """
        account = self.account(row, quotas_of.get("account"))
        if row.user_name is None:
            return Principal.root(account, self.partition)
        return Principal(
            account,
            row.user_name,
            user_arn(account.id, row.user_name, row.path, self.partition),
            row.unique_id,
            self._policies("user", policy_rows),
            tuple(row.tags.items()),
            limits_in(quotas_of.get("user")),
        )

    def account(self, row: _Row, quota: _Row | None = None) -> Account:
        """The account of such a row; its limits are raised as its quota says."""
        return Account(
            row.account_id,
            row.account_name,
            account_limits(row, quota, self.default_limits),
            row.paused_reason,
            row.organization_id,
            shutdown_reason=row.shutdown_reason,
            is_sending=row.account_is_sending,
        )

    # -- identities ----------------------------------------------------------------------------

    async def read_identities(self, connection: AsyncConnection, name: str) -> IdentityRows:
        """The rows of all identities of a name, of any account."""
        found = await connection.execute(
            _IDENTITY.where(identities.c.region == self.region, identities.c.name == name)
        )
        rows = found.all()
        if not rows:
            return IdentityRows((), (), (), (), {})
        account_ids = [row.account_id for row in rows]
        of_policies = await connection.execute(
            _POLICY.where(
                policies.c.account_id.in_(account_ids),
                policies.c.kind == "identity",
                policies.c.region == self.region,
                policies.c.subject == name,
            )
        )
        of_caps = await connection.execute(
            _CAP.where(
                quotas.c.account_id.in_(account_ids),
                quotas.c.region == self.region,
                quotas.c.subject == name,
            )
        )
        paused = await paused_delegates(connection, self.region, name, account_ids)
        if "@" in name:
            return IdentityRows(rows, of_policies.all(), (), of_caps.all(), paused)
        of_keys = await connection.execute(
            _SIGNING_KEY.where(
                dkim_keys.c.account_id.in_(account_ids),
                dkim_keys.c.region == self.region,
                dkim_keys.c.domain == name,
            )
        )
        return IdentityRows(rows, of_policies.all(), of_keys.all(), of_caps.all(), paused)

    async def read_addresses(
        self, connection: AsyncConnection, domain: str
    ) -> Loaded[Mapping[str, None] | None]:
        """The names of all address identities of a domain; ``None`` when they are very many."""
        found = await connection.execute(
            select(identities.c.name)
            .distinct()
            .where(
                identities.c.region == self.region,
                identities.c.domain == domain,
                identities.c.name != domain,
            )
            .limit(_MAX_ADDRESSES + 1)
        )
        names = dict.fromkeys(row.name for row in found)
        if len(names) > _MAX_ADDRESSES:
            return Loaded(None, (), 0)
        return Loaded(names, (), _ENTRY_OCTETS + _ADDRESS_OCTETS * len(names))

    def compile_identities(self, rows: IdentityRows) -> Loaded[tuple[Identity, ...]]:
        """The identities. Raises SealError, PolicyError, KeyFileError."""
        policies_of, keys_of = _by_account(rows.policies), _by_account(rows.dkim_keys)
        caps_of = _by_account(rows.caps)
        found = tuple(
            Identity(
                IdentityArn(self.partition, self.region, row.account_id, row.name),
                row.state == "success",
                self._policies("identity", policies_of[row.account_id]),
                tuple(
                    self._dkim_key(key)
                    for key in (keys_of[row.account_id] if row.dkim_enabled else ())
                ),
                row.paused_reason,
                _caps(caps_of[row.account_id]),
                row.configuration_set or "",
                _mail_from(row),
                row.suppresses_delegates,
                rows.paused.get(row.account_id, {}),
            )
            for row in rows.identities
        )
        signing_keys = [key for identity in found for key in identity.dkim_keys]
        octets = (
            _ENTRY_OCTETS * max(len(found), 1)
            + _OCTETS_PER_POLICY_OCTET * rows.policy_octets
            + _CAP_OCTETS * len(rows.caps)
            + _PAUSE_OCTETS * sum(map(len, rows.paused.values()))
            + sum(_PRIVATE_KEY_OCTETS[one.private_key.algorithm] for one in signing_keys)
        )
        # Nothing of their accounts is in them.
        return Loaded(found, (), octets)

    def _dkim_key(self, row: _Row) -> DkimKey:
        pem = self.master_keys.open(row.private_key, private_key_context(row))
        return DkimKey(row.selector, load_private_key(pem, is_checked=True))

    def _policies(self, kind: PolicyKind, rows: Iterable[_Row]) -> tuple[Policy, ...]:
        idiom = self.address_tag_idiom
        return tuple(
            parse_policy(row.document, kind=kind, name=row.name, address_tag_idiom=idiom)
            for row in rows
        )


def _dependencies(row: _Row) -> Iterator[Dependency]:
    """The objects that an access key depends on."""
    yield Dependency(row.account_id)
    if row.user_key is not None:
        yield Dependency(row.account_id, row.user_key)


def _mail_from(row: _Row) -> MailFrom | None:
    if row.mail_from is None:
        return None
    return MailFrom(
        row.mail_from, row.mail_from_state == "success", row.on_mx_failure == "reject"
    )


def _caps(rows: Iterable[_Row]) -> dict[str, SendingLimits]:
    found = ((row.delegate_id, limits_in(row)) for row in rows)
    return {account_id: limits for account_id, limits in found if limits is not None}


def _by_account(rows: Iterable[_Row]) -> defaultdict[str, list[_Row]]:
    found: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        found[row.account_id].append(row)
    return found


def _key_limits(row: _Row, own: SendingLimits | None) -> SendingLimits | None:
    """The key's own limits, at a low rate while it is slowed down."""
    if row.watch_state != "slowed" or row.slowed_to_per_s is None:
        return own
    return (own or SendingLimits(UNLIMITED, UNLIMITED)).slowed_to(row.slowed_to_per_s)
