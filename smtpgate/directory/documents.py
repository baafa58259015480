"""What may stand in the directory's TOML files, as models; nothing in them is opened here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, field_validator

from smtpgate.config_values import Quota, Rate
from smtpgate.core.address import AddressError, parse_domain
from smtpgate.core.arn import ArnError, identity_name, is_account_id
from smtpgate.core.policy import is_policy_name
from smtpgate.tomlfile import (
    Array,
    FileProblemsError,
    Location,
    Reading,
    Table,
    problems,
    read_toml,
    reason,
    validate,
)

__all__ = [
    "AccessKeyTable",
    "AccountTable",
    "DirectoryError",
    "DirectoryFile",
    "DkimTable",
    "IdentityTable",
    "UserTable",
    "read_files",
]

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_USER_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_USER_PATH: Final = re.compile(r"/|/[\x21-\x7e]{1,510}/")
_TAG_KEY: Final = re.compile(r"[\w.:/=+@-]{1,128}")
_MAX_TAG_VALUE: Final = 256
_MAX_TAGS: Final = 50
_ORGANIZATION_ID: Final = re.compile(r"o-[a-z0-9]{10,32}")
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,128}")


class DirectoryError(FileProblemsError):
    """A directory that cannot be used, with all its problems, one a line."""


def _account_id(text: str) -> str:
    if not is_account_id(text):
        raise ValueError("an account id has 12 digits")
    return text


def _user_name(text: str) -> str:
    if _USER_NAME.fullmatch(text) is None:
        raise ValueError("a user name has 1 to 64 letters, digits and _+=,.@-")
    return text


def _policy_name(text: str) -> str:
    if not is_policy_name(text):
        raise ValueError("a policy name has 1 to 64 letters, digits, - and _")
    return text


FileName = Annotated[str, Field(min_length=1)]
Policies = dict[Annotated[str, AfterValidator(_policy_name)], FileName]


class AccessKeyTable(Table):
    """An access key; its secret stands in a file of its own."""

    id: str
    secret_file: FileName
    status: Literal["active", "inactive"] = "active"

    @field_validator("id")
    @classmethod
    def _is_spelled_like_one(cls, value: str) -> str:
        if _KEY_ID.fullmatch(value) is None:
            raise ValueError("an access key id has 16 to 128 capital letters and digits")
        return value


class DkimTable(Table):
    """A DKIM key of a domain (RFC 6376 §3.1)."""

    selector: str
    key_file: FileName

    @field_validator("selector")
    @classmethod
    def _is_in_dns(cls, value: str) -> str:
        try:
            return parse_domain(value)
        except AddressError as error:
            raise ValueError(f"is no selector: {error}") from None


def _tag_key(text: str) -> str:
    if _TAG_KEY.fullmatch(text) is None:
        raise ValueError("a tag's key has 1 to 128 letters, digits and _.:/=+@-")
    return text


Tags = dict[
    Annotated[str, AfterValidator(_tag_key)], Annotated[str, Field(max_length=_MAX_TAG_VALUE)]
]


class UserTable(Table):
    """A user of an account."""

    path: str = "/"
    tags: Tags = Field(default_factory=dict)
    policies: Policies = Field(default_factory=dict)
    access_keys: Array[AccessKeyTable] = ()

    @field_validator("tags")
    @classmethod
    def _differ_in_more_than_case(cls, value: dict[str, str]) -> dict[str, str]:
        # Condition keys are compared without regard to letter case, and a tag is part of one.
        if len({key.lower() for key in value}) < len(value):
            raise ValueError("two tags differ in letter case only")
        if len(value) > _MAX_TAGS:
            raise ValueError(f"a user has at most {_MAX_TAGS} tags")
        return value

    @field_validator("path")
    @classmethod
    def _begins_and_ends(cls, value: str) -> str:
        if _USER_PATH.fullmatch(value) is None:
            raise ValueError("a user's path is / or begins and ends with /")
        return value


class IdentityTable(Table):
    """A domain or address that an account owns."""

    verified: bool = False
    policies: Policies = Field(default_factory=dict)
    dkim: Array[DkimTable] = ()


Users = dict[Annotated[str, AfterValidator(_user_name)], UserTable]


class AccountTable(Table):
    """An account, or what one file says of it."""

    name: str = ""
    status: Literal["active", "paused"] = "active"
    paused_reason: str = ""
    organization: str = ""
    max_24h_send: Quota | None = None
    max_send_rate_per_s: Rate | None = None
    access_keys: Array[AccessKeyTable] = ()
    users: Users = Field(default_factory=dict)
    identities: dict[str, IdentityTable] = Field(default_factory=dict)

    @field_validator("organization")
    @classmethod
    def _is_an_organization(cls, value: str) -> str:
        if value and _ORGANIZATION_ID.fullmatch(value) is None:
            raise ValueError("an organization id is o- and 10 to 32 small letters and digits")
        return value

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


Accounts = dict[Annotated[str, AfterValidator(_account_id)], AccountTable]


class _Accounts(Table):
    accounts: Accounts = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DirectoryFile:
    """One file of the directory, and the accounts in it."""

    path: Path
    accounts: dict[str, AccountTable]


def read_files(folder: Path, found: list[str]) -> list[DirectoryFile]:
    """Every ``*.toml`` file of the folder, in the order of names; problems are added to found.

    Raises DirectoryError when there is nothing to read.
    """
    files = []
    for path in _toml_files(folder):
        try:
            tables = validate(_Accounts, read_toml(path), path, Reading(path.parent))
        except FileProblemsError as error:
            found += error.problems
        else:
            files.append(DirectoryFile(path, tables.accounts))
    return files


def _toml_files(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise DirectoryError([f"{folder}: cannot be read: {reason(error)}"]) from None
    # What begins with a dot was left there by an editor.
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise DirectoryError([f"{folder}: holds no *.toml file"])
    return paths
