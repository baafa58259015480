"""The directory written as documents: a file an account, and its policies beside it.

Secrets and private keys are not written: access keys and DKIM keys are named, and their files
are not. So the documents can be read by others, and applied to the same directory they change
nothing. Fields that change while the gate runs are written where they have no default value;
the stage of a DKIM key stays with the key. Raises of limits are not written, and stay.
"""

import asyncio
import errno
import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import tomli_w

from smtpgate.directory.accounts import AccountRow
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.documents.current import Current, read_current
from smtpgate.directory.documents.export_parts import PartTables
from smtpgate.directory.documents.fields import LIMITS
from smtpgate.directory.identities import IdentityRow
from smtpgate.directory.keys import AccessKeyRow
from smtpgate.directory.policies import PolicyOwner
from smtpgate.directory.quotas import Quota, QuotaKey
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import UserRow

_Table: TypeAlias = dict[str, Any]
# By their paths in the folder.
_Files: TypeAlias = dict[PurePosixPath, bytes]

_MAX_FILE_NAME: Final = 200


async def export(
    store: DirectoryStore, folder: Path, *, accounts: Sequence[str] | None
) -> list[Path]:
    """Write the accounts, or all, into a folder that is new or empty; the documents' paths.

    Of identities, those of the store's region. Hidden files in the folder do not count.
    Only the user who runs this can read the files. Raises NotFoundError for an account,
    OSError, DirectoryUnavailableError.
    """
    async with store.reading() as connection:
        current = await read_current(connection, store.region)
    return await asyncio.to_thread(_export, current, store.partition, folder, accounts)


def _export(
    current: Current, partition: str, folder: Path, accounts: Sequence[str] | None
) -> list[Path]:
    exporter = _Exporter(current, partition)
    for account_id in sorted(current.accounts) if accounts is None else dict.fromkeys(accounts):
        exporter.add(account_id)
    _make_folder(folder)
    for path_in_folder, content in exporter.files.items():
        path = folder / path_in_folder
        for parent in reversed(path_in_folder.parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return [folder / path_in_folder for path_in_folder in exporter.documents]


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        text = "Directory not empty; documents are exported into a new one"
        raise OSError(errno.ENOTEMPTY, text, str(folder))


class _Exporter:
    def __init__(self, current: Current, partition: str) -> None:
        self.files: _Files = {}
        self.documents: list[PurePosixPath] = []
        self._current = current
        self._partition = partition
        self._parts = PartTables(current.parts)
        self._users: defaultdict[str, list[UserRow]] = defaultdict(list)
        self._identities: defaultdict[str, list[IdentityRow]] = defaultdict(list)
        self._access_keys: defaultdict[str, list[AccessKeyRow]] = defaultdict(list)
        for user in current.users.values():
            self._users[user.account_id].append(user)
        for identity in current.identities.values():
            self._identities[identity.account_id].append(identity)
        for key in current.access_keys.values():
            self._access_keys[key.owner].append(key)

    def add(self, account_id: str) -> None:
        """Write an account. Raises NotFoundError."""
        row = self._current.accounts.get(account_id)
        if row is None:
            raise NotFoundError(f"there is no account {account_id}")
        table = _account(row) | self._keys_of(account_id)
        users = {user.name: self._user(user) for user in self._users[account_id]}
        identities = {one.name: self._identity(one) for one in self._identities[account_id]}
        table |= _unless_empty(users=users, identities=identities)
        table |= self._parts.of_account(account_id)
        path = PurePosixPath(f"{account_id}.toml")
        self.files[path] = tomli_w.dumps({"accounts": {account_id: table}}).encode()
        self.documents.append(path)

    def _user(self, row: UserRow) -> _Table:
        path = {} if row.path == "/" else {"path": row.path}
        return {
            **path,
            **_unless_empty(tags=dict(row.tags)),
            **self._limits_of(QuotaKey.of_user(row.account_id, row.name)),
            **self._policies(row.policies, "users"),
            **self._keys_of(f"{row.account_id}/{row.name}"),
        }

    def _identity(self, row: IdentityRow) -> _Table:
        is_trusted = row.is_verified and row.method == "trust"
        selectors = self._current.dkim_keys_of(row.account_id, row.name)
        caps = self._current.caps_of(row.account_id, row.region, row.name)
        return {
            **({"verified": True} if is_trusted else {}),
            **_pause(row.paused_reason),
            **({"suppress_for_delegates": True} if row.suppresses_delegates else {}),
            **self._parts.of_identity(row.account_id, row.name),
            **self._policies(row.policies(self._partition), "identities"),
            **_unless_empty(
                dkim=[{"selector": selector} for selector in selectors],
                caps={delegate: _limits(quota) for delegate, quota in caps.items()},
            ),
        }

    def _keys_of(self, owner: str) -> _Table:
        return _unless_empty(access_keys=[self._key(row) for row in self._access_keys[owner]])

    def _key(self, row: AccessKeyRow) -> _Table:
        return {
            "id": row.id,
            **({} if row.is_active else {"status": "inactive"}),
            **({"expires": row.expires_at} if row.expires_at else {}),
            **_unless_empty(networks=list(row.networks)),
            **_unless_empty(certificates=list(row.certificates)),
            **self._limits_of(QuotaKey.of_key(row.account_id, row.id)),
        }

    def _limits_of(self, quota_key: QuotaKey) -> _Table:
        return _limits(self._current.quota_of(quota_key))

    def _policies(self, owner: PolicyOwner, kind: str) -> _Table:
        folder = PurePosixPath(owner.account_id, kind, _file_name(owner.shown))
        files = {}
        for name, row in self._current.policies_of(owner).items():
            path = folder / f"{name}.json"
            self.files[path] = (row.document or "").encode()
            files[name] = str(path)
        return _unless_empty(policies=files)


def _account(row: AccountRow) -> _Table:
    values = {
        "name": row.name,
        "organization": row.organization_id,
        "contact": row.contact,
    }
    return _if_set(values) | _limits(row) | _pause(row.paused_reason)


def _limits(row: AccountRow | Quota) -> _Table:
    return _if_set({key: getattr(row, key) for key in LIMITS})


def _if_set(values: _Table) -> _Table:
    return {key: value for key, value in values.items() if value is not None}


def _pause(reason: str | None) -> _Table:
    return {} if reason is None else {"status": "paused", "paused_reason": reason}


def _unless_empty(**values: Mapping[str, Any] | list[Any]) -> _Table:
    return {key: value for key, value in values.items() if value}


def _file_name(name: str) -> str:
    """A name as a file's name; characters with a meaning in paths are escaped."""
    text = quote(name, safe="@+=,")
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    if len(text) > _MAX_FILE_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        text = f"{text[: _MAX_FILE_NAME - len(digest) - 1]}%{digest}"
    return text
