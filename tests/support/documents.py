"""Documents of a directory for tests, the files that they name, and what came of them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from smtpgate.directory.documents.apply import apply
from smtpgate.directory.documents.current import Current, read_current
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.plan import Plan
from smtpgate.directory.documents.read import read_desired
from smtpgate.directory.keys import secret_context
from smtpgate.directory.policies import MAY_SEND
from smtpgate.directory.schema import audit_log
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import generate_private_key
from tests.support.directory import ACTOR
from tests.support.world import REGION

NOTHING: Final = Desired()
# Fields that differ between two directories that got the same documents in turn.
_OF_ITS_OWN: Final = frozenset(
    {
        "created_at",
        "changed_at",
        "changed_by",
        "checked_at",
        "last_used_at",
        "last_used_from",
        "next_check_at",
        "since",
        "started_at",
        "token",
        "unique_id",
        "verified_at",
        "version",
    }
)


@dataclass(frozen=True, slots=True)
class Files:
    """A folder with what documents may name: ``*.secret``, ``*.pem``, ``*.json``."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> "Files":
        """Secrets ``one`` and ``two``, private keys ``one`` and ``two``, policies."""
        for name in ("one", "two"):
            cls._write(folder / f"{name}.secret", f"secret {name}\n".encode())
            cls._write(folder / f"{name}.pem", generate_private_key("ed25519"))
        cls._write(folder / "may-send.json", MAY_SEND.encode())
        cls._write(folder / "may-all.json", MAY_SEND.replace("ses:SendRawEmail", "*").encode())
        return cls(folder)

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        path.chmod(0o600)

    def delegate(self, account_id: str, name: str, delegate: str) -> str:
        """The file of a policy that lets another account send with an identity."""
        arn = f"arn:aws:ses:{REGION}:{account_id}:identity/{name}"
        path = self.folder / f"{account_id}-{name}-{delegate}.json"
        path.write_text(
            f'{{"Statement": {{"Effect": "Allow", "Action": "ses:SendRawEmail", '
            f'"Principal": {{"AWS": "{delegate}"}}, "Resource": "{arn}"}}}}'
        )
        return str(path)


def read(path: Path) -> Desired:
    """The objects of documents, for the tests' region."""
    return read_desired(path, region=REGION, partition="aws")


async def applied(
    store: DirectoryStore,
    desired: Desired,
    *,
    prune: bool = True,
    force: bool = False,
    expected: Plan | None = None,
) -> Plan:
    """Apply in a transaction of its own."""
    async with store.changing(ACTOR) as change:
        return await apply(change, store, desired, prune=prune, force=force, expected=expected)


async def present(store: DirectoryStore) -> Current:
    """All that the directory holds."""
    async with store.reading() as connection:
        return await read_current(connection, store.region)


async def noted(store: DirectoryStore) -> int:
    """The number of lines of the audit log."""
    async with store.reading() as connection:
        found = await connection.execute(select(func.count()).select_from(audit_log))
        return found.scalar() or 0


async def content(store: DirectoryStore) -> dict[str, Any]:
    """The directory's rows, with opened secrets, and without random or past values."""
    found = await present(store)
    policies = {
        (*owner, name): row.document
        for owner, rows in found.policies.items()
        for name, row in rows.items()
    }
    dkim_keys = {
        (*owner, selector): _without_chance(row)
        for owner, rows in found.dkim_keys.items()
        for selector, row in rows.items()
    }
    quotas = {
        (*owner, delegate): asdict(quota)
        for owner, rows in found.quotas.items()
        for delegate, quota in rows.items()
    }
    secrets = {
        key_id: store.master_keys.open(sealed, secret_context(key_id))
        for key_id, sealed in found.sealed.items()
    }
    return {
        "accounts": {key: _without_chance(row) for key, row in found.accounts.items()},
        "users": {key: _without_chance(row) for key, row in found.users.items()},
        "access keys": {key: _without_chance(row) for key, row in found.access_keys.items()},
        "identities": {key: _without_chance(row) for key, row in found.identities.items()},
        "policies": policies,
        "limits": quotas,
        "DKIM keys": dkim_keys,
        "parts": dict(found.parts),
        "secrets": secrets,
    }


def _without_chance(row: Any) -> dict[str, Any]:  # noqa: ANN401 - any kind of row
    return {key: value for key, value in asdict(row).items() if key not in _OF_ITS_OWN}
