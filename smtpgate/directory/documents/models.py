"""The format of the directory's documents, as models; files that they name are read elsewhere.

A document is a TOML file, or a JSON file of the same shape. Keys that it leaves out have
defaults, except for fields that change while the gate runs: whether an account or identity is
paused, an access key turned off, an identity verified, and the stage of a DKIM key. Of these, a
key that is left out stays as it is. Raises of limits for a time have no place here, and stay as
they are too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from smtpgate.config.sound_keys import Location
from smtpgate.config.toml import (
    Array,
    FileProblemsError,
    FileReading,
    Table,
    problems,
    read_toml,
    reason,
    validate,
)
from smtpgate.config.values import Moment, Network, Quota, Rate
from smtpgate.core.account import MAX_QUOTA
from smtpgate.core.address import AddressError, parse_domain
from smtpgate.core.arn import ArnError, identity_name
from smtpgate.core.naming import (
    MAX_CERTIFICATES,
    MAX_NETWORKS,
    access_key_id,
    certificate_pin,
    contact_address,
    one_line,
    organization_id,
    tag_key,
    tags,
    user_name,
    user_path,
)
from smtpgate.core.policy import PolicyError, is_policy_name
from smtpgate.core.policy.strict_json import Json, Number, kind_of, parse_json
from smtpgate.directory.documents.mail_models import (
    AccountId,
    Judged,
    MailFromTable,
    NotificationsTable,
    OwnerNotificationsTable,
    Reasons,
    ResourceTags,
    SetName,
    SetTable,
    TopicName,
    TopicTable,
    at_most,
)
from smtpgate.directory.quotas import MAX_CAPS

# A policy is a JSON file too, so documents are recognised by their names.
_TOML: Final = ".toml"
_JSON: Final = "accounts.json"
_MAX_DIGITS: Final = 20


class DirectoryError(FileProblemsError):
    """Documents that cannot be used, with all their problems, one a line."""


@dataclass(frozen=True, slots=True)
class _ReadingJson(FileReading):
    """The reading of a file with texts in place of moments."""


def _policy_name(text: str) -> str:
    if not is_policy_name(text):
        raise ValueError("a policy name has 1 to 64 letters, digits, - and _")
    return text


def _from_text(value: object, info: ValidationInfo) -> object:
    if not isinstance(info.context, _ReadingJson) or not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value


def _selector(text: str) -> str:
    try:
        selector = parse_domain(text)
    except AddressError as error:
        raise ValueError(f"is no selector: {error}") from None
    if selector.startswith("["):
        raise ValueError("is no selector: an address literal is no name")
    return selector


def _if_given(check: Callable[[str], object]) -> AfterValidator:
    return AfterValidator(lambda text: check(text) if text else text)


Line = Annotated[str, AfterValidator(one_line)]
FileName = Annotated[str, Field(min_length=1)]
Policies = dict[Annotated[str, AfterValidator(_policy_name)], FileName]
_Expiry: TypeAlias = Annotated[Moment, BeforeValidator(_from_text)]
_Networks: TypeAlias = Annotated[
    Array[Network], at_most(MAX_NETWORKS, "an access key has at most {} networks")
]
_Certificates: TypeAlias = Annotated[
    Array[Annotated[str, AfterValidator(certificate_pin)]],
    at_most(MAX_CERTIFICATES, "an access key has at most {} certificates"),
]
_UserTags: TypeAlias = Annotated[
    dict[Annotated[str, AfterValidator(tag_key)], str], AfterValidator(tags)
]


class LimitsTable(Table):
    """An object with limits. Without a limit, an account has the default, others have none."""

    max_24h_send: Annotated[Quota, Field(le=MAX_QUOTA)] | None = None
    max_send_rate_per_s: Rate | None = None


class CapTable(LimitsTable):
    """The limits of another account that sends by an identity."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_24h_send is None and self.max_send_rate_per_s is None:
            raise ValueError("needs max_24h_send, max_send_rate_per_s or both")
        return self


class AccessKeyTable(LimitsTable):
    """An access key; its secret stands in a file of its own.

    Without the file, the directory must have the key already.
    """

    id: Annotated[str, AfterValidator(access_key_id)]
    secret_file: FileName | None = None
    status: Literal["active", "inactive"] | None = None
    expires: _Expiry | None = None
    networks: _Networks = ()
    certificates: _Certificates = ()


class DkimTable(Table):
    """A DKIM key of a domain (RFC 6376 §3.1).

    Without the file, the directory must have the key already. One that is new is active.
    """

    selector: Annotated[str, AfterValidator(_selector)]
    key_file: FileName | None = None
    stage: Literal["pending", "active", "retiring"] | None = None


class UserTable(LimitsTable):
    """A user of an account."""

    path: Annotated[str, AfterValidator(user_path)] = "/"
    tags: _UserTags = Field(default_factory=dict)
    policies: Policies = Field(default_factory=dict)
    access_keys: Array[AccessKeyTable] = ()


class IdentityTable(Table):
    """A domain or address that an account owns.

    ``verified = true`` vouches for it, ``false`` takes that back and leaves a proof alone.
    """

    verified: bool | None = None
    status: Literal["active", "paused"] | None = None
    paused_reason: Line = ""
    policies: Policies = Field(default_factory=dict)
    dkim: Array[DkimTable] = ()
    mail_from: MailFromTable | None = None
    configuration_set: SetName | None = None
    notifications: OwnerNotificationsTable | None = None
    suppress_for_delegates: bool | None = None
    reputation: Judged | None = None
    tags: ResourceTags = Field(default_factory=dict)
    caps: Annotated[
        dict[AccountId, CapTable], at_most(MAX_CAPS, "an identity caps at most {} accounts")
    ] = Field(default_factory=dict)


class AccountTable(LimitsTable):
    """An account, or the part of it in one document."""

    name: Line = ""
    status: Literal["active", "paused"] | None = None
    paused_reason: Line = ""
    organization: Annotated[str, _if_given(organization_id)] = ""
    contact: Annotated[str, _if_given(contact_address)] = ""
    access_keys: Array[AccessKeyTable] = ()
    users: dict[Annotated[str, AfterValidator(user_name)], UserTable] = Field(
        default_factory=dict
    )
    identities: dict[str, IdentityTable] = Field(default_factory=dict)
    topics: dict[TopicName, TopicTable] = Field(default_factory=dict)
    configuration_sets: dict[SetName, SetTable] = Field(default_factory=dict)
    notifications: dict[str, NotificationsTable] = Field(default_factory=dict)
    suppress: Reasons | None = None

    @field_validator("identities")
    @classmethod
    def _are_named_once(cls, value: dict[str, IdentityTable]) -> dict[str, IdentityTable]:
        found: dict[str, IdentityTable] = {}
        wrong: list[tuple[Location, str]] = []
        for text, table in value.items():
            try:
                name = identity_name(text)
            except ArnError as error:
                wrong.append(((text,), str(error)))
                continue
            if name in found:
                wrong.append(((text,), f"is the same identity as {name}"))
            found[name] = table
        if wrong:
            raise problems(wrong)
        return found


class _Accounts(Table):
    accounts: dict[AccountId, AccountTable] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One file, and the accounts in it; files that it names are relative to its folder."""

    path: Path
    accounts: dict[str, AccountTable]

    def access_keys(self) -> Iterator[tuple[str, str | None, AccessKeyTable]]:
        """Every access key, with the account and the user, or none for the account's root."""
        for account, table in self.accounts.items():
            for key in table.access_keys:
                yield account, None, key
            for user, user_table in table.users.items():
                for key in user_table.access_keys:
                    yield account, user, key


def read_documents(path: Path, found: list[str]) -> list[Document]:
    """A document, or those of a folder in the order of names; problems are added to found.

    Raises DirectoryError when there is nothing to read.
    """
    documents = []
    for file in _files(path):
        try:
            documents.append(_document(file))
        except FileProblemsError as error:
            found += error.problems
    return documents


def _files(path: Path) -> list[Path]:
    try:
        if path.is_file():
            if not path.name.endswith((_TOML, ".json")):
                raise DirectoryError([f"{path}: is named neither *.toml nor *.json"])
            return [path]
        # Files whose names begin with a dot are left there by editors.
        files = sorted(
            file
            for file in path.iterdir()
            if file.name.endswith((_TOML, _JSON)) and not file.name.startswith(".")
        )
    except OSError as error:
        raise DirectoryError([f"{path}: cannot be read: {reason(error)}"]) from None
    if not files:
        raise DirectoryError([f"{path}: holds no *{_TOML} and no *{_JSON} file"])
    return files


def _document(path: Path) -> Document:
    if path.suffix == _TOML:
        tables = validate(_Accounts, read_toml(path), path, FileReading(path.parent))
    else:
        tables = validate(_Accounts, _read_json(path), path, _ReadingJson(path.parent))
    return Document(path, tables.accounts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value, repeated = parse_json(path.read_bytes())
    except OSError as error:
        raise FileProblemsError([f"{path}: cannot be read: {reason(error)}"]) from None
    except PolicyError as error:
        raise FileProblemsError(f"{path}: {problem}" for problem in error.problems) from None
    if repeated:
        raise FileProblemsError(f"{path}: {problem}" for problem in repeated)
    if not isinstance(value, dict):
        raise FileProblemsError([f"{path}: must be an object, not {kind_of(value)}"])
    return {key: _plain(member) for key, member in value.items()}


def _plain(value: Json) -> Any:  # noqa: ANN401 - as TOML's reader
    """The value with numbers in place of their texts."""
    match value:
        case Number(text):
            is_whole = len(text) <= _MAX_DIGITS and text.lstrip("-").isdigit()
            return int(text) if is_whole else float(text)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(member) for key, member in value.items()}
    return value
