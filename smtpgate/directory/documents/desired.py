"""The objects that documents declare, checked, with their locations in files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from smtpgate.config.sound_keys import Location
from smtpgate.config.toml import dotted_key
from smtpgate.core.identity import PrivateKey
from smtpgate.core.proof.dkim_stages import KeyStage
from smtpgate.core.secret import Secret
from smtpgate.directory.documents.object_keys import Fields, ObjectKey


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A file and a key in it."""

    file: Path
    key: Location

    def __truediv__(self, part: str | int) -> "SourceLocation":
        return SourceLocation(self.file, (*self.key, part))

    def __str__(self) -> str:
        return f"{self.file}: {dotted_key(self.key)}"


@dataclass(frozen=True, slots=True)
class Pause:
    """The desired pause; ``is_paused`` of ``None`` leaves it as it is."""

    is_paused: bool | None = None
    reason: str = ""

    def after(self, reason: str | None) -> str | None:
        """The new reason, given the current one; ``None`` is not paused."""
        if self.is_paused is None:
            return reason
        return self.reason if self.is_paused else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits within those of the account; ``None`` is no limit of its own."""

    max_24h_send: int | None = None
    max_send_rate_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredAccount:
    """An account; a limit of ``None`` is the configuration's."""

    location: SourceLocation
    id: str
    name: str
    organization_id: str | None
    contact: str | None
    pause: Pause
    max_24h_send: int | None
    max_send_rate_per_s: float | None


@dataclass(frozen=True, slots=True)
class DesiredPolicy:
    """A policy with its document as it was written."""

    name: str
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredUser:
    """A user of an account."""

    location: SourceLocation
    account_id: str
    name: str
    path: str
    tags: Mapping[str, str]
    limits: Limits
    policies: tuple[DesiredPolicy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredKey:
    """An access key; the root's has no user. Without a secret, it must be there already."""

    location: SourceLocation
    id: str
    account_id: str
    user_name: str | None
    secret: Secret | None
    is_active: bool | None
    expires_at: datetime | None
    networks: tuple[str, ...]
    certificates: tuple[str, ...]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredDkimKey:
    """A DKIM key; without a private key, it must be there already."""

    location: SourceLocation
    selector: str
    pem: bytes | None = field(repr=False)
    private_key: PrivateKey | None = field(repr=False)
    stage: KeyStage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredIdentity:
    """An identity; ``is_verified`` of ``None`` leaves its verification alone.

    ``caps`` has the limits of other accounts that send by it, by their ids.
    """

    location: SourceLocation
    account_id: str
    name: str
    is_verified: bool | None
    pause: Pause
    policies: tuple[DesiredPolicy, ...]
    dkim_keys: tuple[DesiredDkimKey, ...]
    caps: Mapping[str, Limits]
    suppresses_delegates: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPart:
    """A part that documents declare; ``owners`` are the objects that it is a part of."""

    location: SourceLocation
    key: ObjectKey
    owners: tuple[ObjectKey, ...]
    wanted: Fields


@dataclass(frozen=True, kw_only=True)
class Desired:
    """All objects that documents declare; ``warnings`` are about unwise ones."""

    accounts: tuple[DesiredAccount, ...] = ()
    users: tuple[DesiredUser, ...] = ()
    access_keys: tuple[DesiredKey, ...] = ()
    identities: tuple[DesiredIdentity, ...] = ()
    parts: tuple[DesiredPart, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def wanted_parts(self) -> Mapping[ObjectKey, Fields]:
        """The fields of the parts, by their keys."""
        return {part.key: part.wanted for part in self.parts}
