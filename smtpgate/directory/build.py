"""The directory's files made into accounts, keys and identities, with every problem noted."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.arn import ArnError, IdentityArn, user_arn
from smtpgate.core.identity import DkimKey, Identity, PrivateKey
from smtpgate.core.policy import Kind, Policy, PolicyError, attachment_problems, parse_policy
from smtpgate.directory.documents import (
    AccessKeyTable,
    AccountTable,
    DirectoryError,
    DirectoryFile,
    DkimTable,
    IdentityTable,
    UserTable,
)
from smtpgate.tomlfile import (
    FileNotReadableError,
    Location,
    dotted_key,
    read_bytes,
    read_private,
    read_secret,
)

__all__ = ["Content", "Settings", "build"]

_CURE: Final = "; `smtpgate init' makes what is missing"
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_MAX_ACTIVE_KEYS: Final = 2
# What an account says of itself; in one file only, while the rest may be spread over several.
_OWN_KEYS: Final = (
    "name",
    "status",
    "paused_reason",
    "organization",
    "max_24h_send",
    "max_send_rate_per_s",
    "access_keys",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the configuration says about the directory."""

    path: Path
    region: str
    partition: str
    default_limits: SendingLimits
    address_tag_idiom: bool
    load_key: Callable[[bytes], PrivateKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A directory as it was when it was read."""

    accounts: int
    principals: tuple[Principal, ...]
    access_keys: Mapping[str, AccessKey]
    identities: Mapping[str, Sequence[Identity]]
    private_keys: Mapping[bytes, PrivateKey] = field(repr=False)
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something stands: a file and a key in it."""

    file: Path
    key: Location

    def __truediv__(self, part: str | int) -> "_Place":
        return _Place(self.file, (*self.key, part))

    def __str__(self) -> str:
        return f"{self.file}: {dotted_key(self.key)}"


def build(
    files: Sequence[DirectoryFile],
    settings: Settings,
    parsed_keys: Mapping[bytes, PrivateKey],
    problems: Sequence[str] = (),
) -> Content:
    """Everything in the files together; ``parsed_keys`` saves parsing them once more.

    Raises DirectoryError with every problem, after those that were found before.
    """
    builder = _Builder(settings, parsed_keys)
    builder.problems += problems
    accounts = builder.accounts(files)
    for file in files:
        for account_id, table in file.accounts.items():
            place = _Place(file.path, ("accounts", account_id))
            builder.add(accounts[account_id], table, place)
    if builder.problems:
        raise DirectoryError(builder.problems)
    return builder.content(len(accounts))


class _Builder:
    def __init__(self, settings: Settings, parsed_keys: Mapping[bytes, PrivateKey]) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._parsed_keys = parsed_keys
        self._private_keys: dict[bytes, PrivateKey] = {}
        self._principals: dict[str, Principal] = {}
        self._access_keys: dict[str, AccessKey] = {}
        self._identities: dict[str, tuple[Identity, ...]] = {}
        self._places: dict[tuple[str, ...], _Place] = {}
        self._warnings: list[str] = []

    def content(self, accounts: int) -> Content:
        """What was built."""
        return Content(
            accounts=accounts,
            principals=tuple(self._principals.values()),
            access_keys=self._access_keys,
            identities=self._identities,
            private_keys=self._private_keys,
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    def accounts(self, files: Sequence[DirectoryFile]) -> dict[str, Account]:
        """The accounts, each from whichever file says something of it."""
        own: dict[str, dict[str, Any]] = {}
        for file in files:
            for account_id, table in file.accounts.items():
                said = own.setdefault(account_id, {})
                for key in sorted(table.model_fields_set.intersection(_OWN_KEYS)):
                    place = _Place(file.path, ("accounts", account_id, key))
                    if self._is_first(place, "account", account_id, key):
                        said[key] = getattr(table, key)
        return {account_id: self._account(account_id, said) for account_id, said in own.items()}

    def _account(self, account_id: str, said: Mapping[str, Any]) -> Account:
        default = self._settings.default_limits
        paused_reason = said.get("paused_reason", "")
        return Account(
            account_id,
            said.get("name", account_id),
            SendingLimits(
                said.get("max_24h_send", default.max_24h_send),
                said.get("max_send_rate_per_s", default.max_send_rate_per_s),
            ),
            paused_reason if said.get("status") == "paused" else None,
            said.get("organization") or None,
        )

    def add(self, account: Account, table: AccountTable, place: _Place) -> None:
        """What one file says of the account's keys, users and identities."""
        root = Principal.root(account, self._settings.partition)
        self._principals[root.arn] = root
        self._add_keys(root, table.access_keys, place)
        for name, user in table.users.items():
            self._add_user(account, name, user, place / "users" / name)
        for name, identity in table.identities.items():
            self._add_identity(account, name, identity, place / "identities" / name)

    def _add_user(self, account: Account, name: str, table: UserTable, place: _Place) -> None:
        # IAM tells users apart without regard to letter case.
        self._is_first(place, "user", account.id, name.lower())
        principal = Principal(
            account,
            name,
            user_arn(account.id, name, table.path, self._settings.partition),
            _user_id(account.id, name),
            self._policies("user", table.policies, place),
            tuple(table.tags.items()),
        )
        self._principals[principal.arn] = principal
        self._add_keys(principal, table.access_keys, place)

    def _add_keys(
        self, principal: Principal, tables: Sequence[AccessKeyTable], place: _Place
    ) -> None:
        for number, table in enumerate(tables):
            where = place / "access_keys" / number
            self._is_first(where / "id", "access key", table.id)
            try:
                secret = read_secret(self._path(table.secret_file), self._warnings)
            except FileNotReadableError as error:
                self._note(where / "secret_file", f"{error}{_CURE}")
                continue
            except ValueError as error:
                self._note(where / "secret_file", str(error))
                continue
            is_active = table.status == "active"
            self._access_keys[table.id] = AccessKey(table.id, secret, principal, is_active)
        active = sum(table.status == "active" for table in tables)
        if active > _MAX_ACTIVE_KEYS:
            self._note(
                place / "access_keys",
                f"{active} are active, and at most {_MAX_ACTIVE_KEYS} may be",
            )

    def _add_identity(
        self, account: Account, name: str, table: IdentityTable, place: _Place
    ) -> None:
        self._is_first(place, "identity", account.id, name)
        settings = self._settings
        arn = IdentityArn(settings.partition, settings.region, account.id, name)
        try:
            IdentityArn.parse(str(arn))
        except ArnError:
            self._note(place, "no ARN can name it")
        if table.dkim and "@" in name:
            self._note(place / "dkim", "an address is signed for with the keys of its domain")
        identity = Identity(
            arn,
            table.verified,
            self._policies("identity", table.policies, place, str(arn)),
            tuple(self._dkim_keys(table.dkim, place)),
        )
        self._identities[name] = (*self._identities.get(name, ()), identity)

    def _policies(
        self, kind: Kind, files: Mapping[str, str], place: _Place, identity_arn: str = ""
    ) -> tuple[Policy, ...]:
        found: list[Policy] = []
        for number, (name, file_name) in enumerate(files.items()):
            where = place / "policies" / name
            try:
                text = read_bytes(self._path(file_name))
                policy = parse_policy(
                    text,
                    kind=kind,
                    name=name,
                    address_tag_idiom=self._settings.address_tag_idiom,
                )
            except PolicyError as error:
                self._note(where, *(f"{file_name}: {problem}" for problem in error.problems))
                continue
            except ValueError as error:
                self._note(where, str(error))
                continue
            if kind == "identity":
                problems = attachment_problems(
                    policy,
                    identity_arn=identity_arn,
                    source_octets=len(text),
                    siblings=number,
                )
                self._note(where, *(f"{file_name}: {problem}" for problem in problems))
            found.append(policy)
        return tuple(found)

    def _dkim_keys(self, tables: Sequence[DkimTable], place: _Place) -> Iterator[DkimKey]:
        selectors: set[str] = set()
        for number, table in enumerate(tables):
            where = place / "dkim" / number
            if table.selector in selectors:
                self._note(where / "selector", f"{table.selector} stands twice")
            selectors.add(table.selector)
            path = self._path(table.key_file)
            try:
                private_key = self._private_key(read_private(path, self._warnings))
            except FileNotReadableError as error:
                self._note(where / "key_file", f"{error}{_CURE}")
            except ValueError as error:
                self._note(where / "key_file", f"{path}: {error}")
            else:
                yield DkimKey(table.selector, private_key)

    def _private_key(self, pem: bytes) -> PrivateKey:
        """The parsed key; parsing RSA takes a hundred times as long as signing."""
        known = self._private_keys.get(pem) or self._parsed_keys.get(pem)
        self._private_keys[pem] = known or self._settings.load_key(pem)
        return self._private_keys[pem]

    def _path(self, file_name: str) -> Path:
        return self._settings.path / file_name

    def _is_first(self, place: _Place, *what: str) -> bool:
        other = self._places.setdefault(what, place)
        if other != place:
            self._note(place, f"stands in {other} too")
        return other == place

    def _note(self, place: _Place, *problems: str) -> None:
        self.problems += (f"{place}: {problem}" for problem in problems)


def _user_id(account_id: str, name: str) -> str:
    """A unique id in the form of IAM's (``aws:userid``), the same at each start."""
    digest = hashlib.sha256(f"{account_id}/{name}".encode()).digest()
    return "AIDA" + base64.b32encode(digest).decode("ascii")[:17]
