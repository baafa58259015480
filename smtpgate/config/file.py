"""The configuration: one TOML file, read into frozen models, with no key that is not known.

The models are made in code the same way as from the file. Everything that can be wrong with a
file is told at once: file, key, what is wrong, and the nearest known name.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from smtpgate.config.sections import (
    CLIENT_PATIENCE_S,
    AuthorizationConfig,
    DirectoryConfig,
    DnsConfig,
    GateConfig,
    HttpConfig,
    JournalConfig,
    LedgerConfig,
    LimitsConfig,
    ListenerConfig,
    LogConfig,
    MessageConfig,
    MetricsConfig,
    PolicyConfig,
    SigningConfig,
    UpstreamConfig,
)
from smtpgate.config.toml import (
    FileProblemsError,
    Location,
    Reading,
    Table,
    problems,
    read_toml,
    validate,
)
from smtpgate.config.values import (
    from_sections,
    is_loopback,
    is_same_place,
    share_an_address,
)
from smtpgate.core.account import SendingLimits


class ConfigError(FileProblemsError):
    """A configuration that cannot be used, with all its problems, one a line."""


def _section() -> Any:  # noqa: ANN401 - as pydantic's Field
    """A section that may be left out; the paths in it are relative to the file all the same."""
    return Field(default_factory=dict, validate_default=True)


class Config(Table):
    """The whole configuration."""

    written_as: ClassVar[Mapping[str, str | None]] = {
        "listeners": "listener",
        "upstreams": "upstream",
    }

    gate: GateConfig = _section()
    listeners: Annotated[tuple[ListenerConfig, ...], from_sections] = Field(
        default=(), alias="listener", validate_default=True
    )
    upstreams: Annotated[tuple[UpstreamConfig, ...], from_sections] = Field(
        default=(), alias="upstream", validate_default=True
    )
    directory: DirectoryConfig = _section()
    dns: DnsConfig = DnsConfig()
    ledger: LedgerConfig = LedgerConfig()
    journal: JournalConfig = _section()
    authorization: AuthorizationConfig = AuthorizationConfig()
    policy: PolicyConfig = PolicyConfig()
    limits: LimitsConfig = LimitsConfig()
    signing: SigningConfig = SigningConfig()
    message: MessageConfig = MessageConfig()
    metrics: MetricsConfig = MetricsConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()

    _warnings: tuple[str, ...] = PrivateAttr(())

    def with_warnings(self, warnings: Iterable[str]) -> Self:
        """The same configuration, found to be allowed but unwise."""
        config = self.model_copy()
        config._warnings = tuple(dict.fromkeys(warnings))
        return config

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise."""
        return (*self._warnings, *self._unwise())

    def _unwise(self) -> Iterator[str]:
        for upstream in self.upstreams:
            if upstream.tls == "off" and not is_loopback(upstream.host):
                key = f"upstream.{upstream.name}.tls"
                yield f'{key}: "off" sends all mail to {upstream.host} in clear text'
        yield from self.ledger.unwise()

    @cached_property
    def hostname(self) -> str:
        """The gate's own name; by default the system's, which may take a DNS query."""
        return self.gate.hostname or socket.getfqdn()

    @property
    def directory_url(self) -> str:
        """The database that the directory is kept in: by default a file in the state folder."""
        return self.directory.url_or(self.gate.state_dir / "directory.sqlite")

    @property
    def journal_url(self) -> str:
        """The database that the journal is kept in: by default a file in the state folder."""
        return self.journal.url_or(self.gate.state_dir / "journal.sqlite")

    @property
    def default_limits(self) -> SendingLimits:
        """The limits of an account that has none of its own."""
        return SendingLimits(self.limits.max_24h_send, self.limits.max_send_rate_per_s)

    @property
    def sole_upstream(self) -> UpstreamConfig:
        """The upstream, of which this version has one; ``helo`` is filled in."""
        (upstream,) = self.upstreams
        return upstream.model_copy(update={"helo": upstream.helo or self.hostname})

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = [
            *self._about_upstreams(),
            *self._about_addresses(),
            *self._about_leases(),
            *self._about_waits(),
        ]
        if found:
            raise problems(found)
        return self

    def _about_upstreams(self) -> Iterator[tuple[Location, str]]:
        for extra in self.upstreams[1:]:
            text = "is one too many; this version relays to one upstream"
            yield ("upstream", extra.name), text
        for upstream in self.upstreams:
            for door in self.listeners:
                if door.port == upstream.port and is_same_place(door.address, upstream.host):
                    text = f"is where listener.{door.name} listens: mail would go in circles"
                    yield ("upstream", upstream.name, "port"), text

    def _about_waits(self) -> Iterator[tuple[Location, str]]:
        for upstream in self.upstreams:
            left_s = CLIENT_PATIENCE_S - upstream.deadline_s
            if self.limits.max_wait_s >= left_s:
                text = (
                    f"must be less than {left_s:g}: a client waits {CLIENT_PATIENCE_S} seconds"
                )
                yield (
                    ("limits", "max_wait_s"),
                    f"{text}, and upstream.{upstream.name}.deadline_s takes the rest",
                )

    def _about_leases(self) -> Iterator[tuple[Location, str]]:
        for upstream in self.upstreams:
            if upstream.deadline_s >= self.ledger.lease_s:
                text = f"must be more than upstream.{upstream.name}.deadline_s"
                yield ("ledger", "lease_s"), f"{text} ({upstream.deadline_s:g})"

    @property
    def ledger_path(self) -> Path:
        """The ledger's file, for kind "sqlite"."""
        return self.ledger.path or self.gate.state_dir / "ledger.sqlite"

    def addresses(self) -> list[tuple[str, str, int]]:
        """Section, address and port of everything that the gate listens on."""
        found = [(f"listener.{one.name}", one.address, one.port) for one in self.listeners]
        if self.http.enabled:
            found.append(("http", self.http.address, self.http.port))
        return found

    def _about_addresses(self) -> Iterator[tuple[Location, str]]:
        doors = self.addresses()
        for index, (section, address, port) in enumerate(doors):
            for other, others_address, others_port in doors[:index] if port else ():
                if port == others_port and share_an_address(address, others_address):
                    text = f"{address} port {port} is taken by {other}"
                    yield (*section.split("."), "port"), text
                    break


def load_config(path: Path, *, require_files: bool = True) -> Config:
    """Read a configuration; paths in it are relative to its folder. Raises ConfigError.

    Without ``require_files`` the files that it names need not be there yet.
    """
    reading = Reading(path.parent, require_files)
    try:
        config = validate(Config, read_toml(path), path, reading)
    except FileProblemsError as error:
        raise ConfigError(error.problems) from None
    return config.with_warnings(reading.warnings)
