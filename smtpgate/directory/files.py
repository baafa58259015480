"""A directory in files: read whole, kept in memory, changed all at once or not at all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from smtpgate.core.account import AccessKey, Principal, SendingLimits
from smtpgate.core.identity import Identity, PrivateKey
from smtpgate.directory.build import Content, Settings, build
from smtpgate.directory.documents import DirectoryError, read_files

__all__ = ["DirectoryError", "FileDirectory"]


class FileDirectory:
    """Implements the Directory port: every answer is one look-up in a dictionary."""

    def __init__(self, settings: Settings, content: Content) -> None:
        self._settings = settings
        self._content = content
        self._reloading = asyncio.Lock()

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        region: str,
        partition: str,
        default_limits: SendingLimits,
        address_tag_idiom: bool,
        load_key: Callable[[bytes], PrivateKey],
    ) -> "FileDirectory":
        """Read the ``*.toml`` files of a folder, and what they name.

        ``load_key`` parses a private key and raises ValueError. Raises DirectoryError.
        """
        settings = Settings(
            path=path,
            region=region,
            partition=partition,
            default_limits=default_limits,
            address_tag_idiom=address_tag_idiom,
            load_key=load_key,
        )
        return cls(settings, _read(settings, {}))

    async def reload(self) -> None:
        """Read everything again; with any error all stays as it was. Raises DirectoryError."""
        async with self._reloading:
            parsed = self._content.private_keys
            self._content = await asyncio.to_thread(_read, self._settings, parsed)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise."""
        return self._content.warnings

    def counts(self) -> dict[str, int]:
        """How many accounts, access keys and identities there are."""
        return {
            "accounts": self._content.accounts,
            "access keys": len(self._content.access_keys),
            "identities": sum(map(len, self._content.identities.values())),
        }

    async def principals(self) -> Sequence[Principal]:
        """Every account's root and every user, with or without access keys."""
        return self._content.principals

    async def access_key(self, key_id: str) -> AccessKey | None:
        """The key of that id with the principal it acts for, active or not."""
        return self._content.access_keys.get(key_id)

    async def identities(self, name: str) -> Sequence[Identity]:
        """Every identity of exactly that name, of whichever accounts, verified or not."""
        return self._content.identities.get(name, ())


def _read(settings: Settings, parsed_keys: Mapping[bytes, PrivateKey]) -> Content:
    problems: list[str] = []
    files = read_files(settings.path, problems)
    return build(files, settings, parsed_keys, problems)
