"""Reads documents into the objects that they declare, and notes all problems of all files.

No database is asked: accepted documents can only contradict the content of the directory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from smtpgate.config.toml import FileNotReadableError, read_bytes, read_private, read_secret
from smtpgate.core.address import MAX_DOMAIN_OCTETS
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.identity import PrivateKey
from smtpgate.core.naming import MAX_ACTIVE_KEYS, user_key
from smtpgate.core.proof.dkim_record import dkim_name
from smtpgate.core.secret import Secret
from smtpgate.directory.documents.desired import (
    Desired,
    DesiredAccount,
    DesiredDkimKey,
    DesiredIdentity,
    DesiredKey,
    DesiredPart,
    DesiredPolicy,
    DesiredUser,
    Limits,
    Pause,
    SourceLocation,
)
from smtpgate.directory.documents.models import (
    AccessKeyTable,
    AccountTable,
    DirectoryError,
    DkimTable,
    Document,
    IdentityTable,
    LimitsTable,
    UserTable,
    read_documents,
)
from smtpgate.directory.documents.read_parts import PartReader
from smtpgate.directory.policies import PolicyOwner, check_policy
from smtpgate.signing.private_keys import load_private_key

_CURE: Final = "; `smtpgate init' makes what is missing"
# The keys of an account itself, which only one file may have; the rest may be in several files.
_OWN_KEYS: Final = (
    "name",
    "status",
    "paused_reason",
    "organization",
    "contact",
    "max_24h_send",
    "max_send_rate_per_s",
    "access_keys",
    "suppress",
)


def read_desired(
    path: Path,
    *,
    region: str,
    partition: str,
    load_key: Callable[[bytes], PrivateKey] = load_private_key,
) -> Desired:
    """The objects that a document or a folder of documents declares.

    ``region`` and ``partition`` are those of the identities' ARNs. ``load_key`` parses and
    checks a private key and raises ValueError. Checking an RSA key takes a thirtieth of a
    second, so this is for a thread. Raises DirectoryError with every problem.
    """
    problems: list[str] = []
    documents = read_documents(path, problems)
    reader = _Reader(region, partition, load_key, problems)
    reader.add_accounts(documents)
    for document in documents:
        for account_id, table in document.accounts.items():
            location = SourceLocation(document.path, ("accounts", account_id))
            reader.add_belongings(account_id, table, location)
    if problems:
        raise DirectoryError(problems)
    return reader.desired()


class _Reader:
    def __init__(
        self,
        region: str,
        partition: str,
        load_key: Callable[[bytes], PrivateKey],
        problems: list[str],
    ) -> None:
        self._region = region
        self._partition = partition
        self._load_key = load_key
        self._problems = problems
        self._warnings: list[str] = []
        self._accounts: list[DesiredAccount] = []
        self._users: list[DesiredUser] = []
        self._access_keys: list[DesiredKey] = []
        self._identities: list[DesiredIdentity] = []
        self._parts: list[DesiredPart] = []
        self._private_keys: dict[bytes, PrivateKey] = {}
        self._locations: dict[tuple[str, ...], SourceLocation] = {}

    def desired(self) -> Desired:
        """The objects that were read."""
        return Desired(
            accounts=tuple(self._accounts),
            users=tuple(self._users),
            access_keys=tuple(self._access_keys),
            identities=tuple(self._identities),
            parts=tuple(self._parts),
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    # -- accounts ------------------------------------------------------------------------------

    def add_accounts(self, documents: Sequence[Document]) -> None:
        """The accounts, each from all files that have a part of it."""
        wanted: dict[str, dict[str, Any]] = {}
        locations: dict[str, SourceLocation] = {}
        for document in documents:
            for account_id, table in document.accounts.items():
                location = SourceLocation(document.path, ("accounts", account_id))
                locations.setdefault(account_id, location)
                own = wanted.setdefault(account_id, {})
                for key in sorted(table.model_fields_set.intersection(_OWN_KEYS)):
                    if self._is_first(location / key, "account", account_id, key):
                        own[key] = getattr(table, key)
        for account_id, own in wanted.items():
            self._accounts.append(self._account(locations[account_id], account_id, own))

    def _account(
        self, location: SourceLocation, account_id: str, own: Mapping[str, Any]
    ) -> DesiredAccount:
        return DesiredAccount(
            location=location,
            id=account_id,
            name=own.get("name") or account_id,
            organization_id=own.get("organization") or None,
            contact=own.get("contact") or None,
            pause=self._pause(own.get("status"), own.get("paused_reason", ""), location),
            max_24h_send=own.get("max_24h_send"),
            max_send_rate_per_s=own.get("max_send_rate_per_s"),
        )

    def _pause(self, status: str | None, reason: str, location: SourceLocation) -> Pause:
        if status == "paused" and not reason.strip():
            self._note(location / "paused_reason", "is missing: say why it is paused")
        return Pause(None if status is None else status == "paused", reason)

    def add_belongings(
        self, account_id: str, table: AccountTable, location: SourceLocation
    ) -> None:
        """Add the account's keys, users and identities of one file."""
        self._add_keys(account_id, None, table.access_keys, location)
        for name, user in table.users.items():
            self._add_user(account_id, name, user, location / "users" / name)
        for name, identity in table.identities.items():
            self._add_identity(account_id, name, identity, location / "identities" / name)
        for part in PartReader(self._region, self._note).of_account(
            account_id, table, location
        ):
            if self._is_first(part.location, *part.key):
                self._parts.append(part)

    # -- users and access keys -----------------------------------------------------------------

    def _add_user(
        self, account_id: str, name: str, table: UserTable, location: SourceLocation
    ) -> None:
        self._is_first(location, "user", account_id, user_key(name))
        policies = self._policies(
            PolicyOwner.of_user(account_id, name), table.policies, location
        )
        self._users.append(
            DesiredUser(
                location=location,
                account_id=account_id,
                name=name,
                path=table.path,
                tags=table.tags,
                limits=_limits(table),
                policies=policies,
            )
        )
        self._add_keys(account_id, name, table.access_keys, location)

    def _add_keys(
        self,
        account_id: str,
        user: str | None,
        tables: Sequence[AccessKeyTable],
        location: SourceLocation,
    ) -> None:
        for number, table in enumerate(tables):
            where = location / "access_keys" / number
            self._is_first(where / "id", "access key", table.id)
            self._access_keys.append(
                DesiredKey(
                    location=where,
                    id=table.id,
                    account_id=account_id,
                    user_name=user,
                    secret=self._secret(table.secret_file, where),
                    is_active=None if table.status is None else table.status == "active",
                    expires_at=table.expires,
                    networks=tuple(dict.fromkeys(map(str, table.networks))),
                    certificates=tuple(dict.fromkeys(table.certificates)),
                    limits=_limits(table),
                )
            )
        # A status that is left out may be inactive in the directory; that is checked later.
        active = sum(table.status == "active" for table in tables)
        if active > MAX_ACTIVE_KEYS:
            self._note(
                location / "access_keys",
                f"{active} are active, and at most {MAX_ACTIVE_KEYS} may be",
            )

    def _secret(self, file_name: str | None, location: SourceLocation) -> Secret | None:
        if file_name is None:
            return None
        try:
            return read_secret(location.file.parent / file_name, self._warnings)
        except FileNotReadableError as error:
            self._note(location / "secret_file", f"{error}{_CURE}")
        except ValueError as error:
            self._note(location / "secret_file", str(error))
        return None

    # -- identities ----------------------------------------------------------------------------

    def _add_identity(
        self, account_id: str, name: str, table: IdentityTable, location: SourceLocation
    ) -> None:
        self._is_first(location, "identity", account_id, name)
        arn = str(IdentityArn(self._partition, self._region, account_id, name))
        try:
            IdentityArn.parse(arn)
        except ArnError:
            self._note(location, "no ARN can name it")
        if table.dkim and "@" in name:
            self._note(
                location / "dkim", "an address is signed for with the keys of its domain"
            )
        if account_id in table.caps:
            self._note(location / "caps" / account_id, "is the owner, whose account has limits")
        policies = self._policies(
            PolicyOwner.of_identity(account_id, self._region, name, arn),
            table.policies,
            location,
        )
        self._identities.append(
            DesiredIdentity(
                location=location,
                account_id=account_id,
                name=name,
                is_verified=table.verified,
                pause=self._pause(table.status, table.paused_reason, location),
                policies=policies,
                dkim_keys=tuple(self._dkim_keys(name, table.dkim, location)),
                caps={delegate: _limits(cap) for delegate, cap in table.caps.items()},
                suppresses_delegates=table.suppress_for_delegates,
            )
        )

    def _dkim_keys(
        self, domain: str, tables: Sequence[DkimTable], location: SourceLocation
    ) -> Iterator[DesiredDkimKey]:
        selectors: set[str] = set()
        for number, table in enumerate(tables):
            where = location / "dkim" / number
            if table.selector in selectors:
                self._note(where / "selector", f"{table.selector} stands twice")
            if len(dkim_name(table.selector, domain)) > MAX_DOMAIN_OCTETS:
                text = f"with its domain it is longer than {MAX_DOMAIN_OCTETS} octets"
                self._note(where / "selector", text)
            selectors.add(table.selector)
            pem = self._pem(table.key_file, where)
            yield DesiredDkimKey(
                location=where,
                selector=table.selector,
                pem=pem,
                private_key=None if pem is None else self._private_keys[pem],
                stage=table.stage,
            )

    def _pem(self, file_name: str | None, location: SourceLocation) -> bytes | None:
        """The content of a private key's file; ``None`` when it is of no use."""
        if file_name is None:
            return None
        path = location.file.parent / file_name
        try:
            pem = read_private(path, self._warnings)
            if pem not in self._private_keys:
                self._private_keys[pem] = self._load_key(pem)
        except FileNotReadableError as error:
            self._note(location / "key_file", f"{error}{_CURE}")
        except ValueError as error:
            self._note(location / "key_file", f"{path}: {error}")
        else:
            return pem
        return None

    # -- policies ------------------------------------------------------------------------------

    def _policies(
        self, owner: PolicyOwner, files: Mapping[str, str], location: SourceLocation
    ) -> tuple[DesiredPolicy, ...]:
        found: list[DesiredPolicy] = []
        for name, file_name in files.items():
            where = location / "policies" / name
            try:
                document = read_bytes(location.file.parent / file_name).decode()
            except UnicodeDecodeError:
                self._note(where, f"{file_name}: is not UTF-8 text")
                continue
            except FileNotReadableError as error:
                self._note(where, str(error))
                continue
            others = [one.document for one in found]
            checked = check_policy(owner, name, document, siblings=others)
            self._note(where, *(f"{file_name}: {problem}" for problem in checked.problems))
            self._warnings += (f"{where}: {file_name}: {it}" for it in checked.unknown_actions)
            found.append(DesiredPolicy(name, document))
        return tuple(found)

    # -- problems ------------------------------------------------------------------------------

    def _is_first(self, location: SourceLocation, *what: str) -> bool:
        other = self._locations.setdefault(what, location)
        if other != location:
            self._note(location, f"stands in {other} too")
        return other == location

    def _note(self, location: SourceLocation, *problems: str) -> None:
        self._problems += (f"{location}: {problem}" for problem in problems)


def _limits(table: LimitsTable) -> Limits:
    return Limits(
        max_24h_send=table.max_24h_send, max_send_rate_per_s=table.max_send_rate_per_s
    )
