"""The whole configuration, and how it is read.

Code makes the models as the file does. All problems of a file are reported at once.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from smtpgate.config import sections
from smtpgate.config.issuers import IssuerConfig, LoginConfig, issuer_problems
from smtpgate.config.routes import RouteConfig, route_problems, route_table, unused_upstreams
from smtpgate.config.sound_keys import Check, Problem
from smtpgate.config.toml import (
    Array,
    FileProblemsError,
    FileReading,
    Table,
    read_toml,
    validate,
)
from smtpgate.config.upstream import CLIENT_PATIENCE_S, UpstreamConfig
from smtpgate.config.values import (
    from_optional_sections,
    from_sections,
    is_loopback,
    is_same_place,
    share_an_address,
)
from smtpgate.core.account import SendingLimits
from smtpgate.core.routing.routes import RouteTable


class ConfigError(FileProblemsError):
    """A configuration with problems, one a line."""


def _section() -> Any:  # noqa: ANN401 - as pydantic's Field
    """An optional section whose defaults hold paths, relative to the file like all others."""
    return Field(default_factory=dict, validate_default=True)


def _by_default(section: type[Table]) -> Any:  # noqa: ANN401 - as pydantic's Field
    """An optional section without paths; its defaults are made where the file lacks it."""
    return Field(default_factory=section)


class Config(Table):
    """The whole configuration."""

    written_as: ClassVar[Mapping[str, str | None]] = {
        "listeners": "listener",
        "apis": "api",
        "upstreams": "upstream",
        "routes": "route",
        "issuers": "issuer",
        "logins": "login",
    }

    gate: sections.GateConfig = _section()
    listeners: Annotated[tuple[sections.ListenerConfig, ...], from_sections] = Field(
        default=(), alias="listener", validate_default=True
    )
    apis: Annotated[tuple[sections.ApiConfig, ...], from_optional_sections] = Field(
        default=(), alias="api", validate_default=True
    )
    upstreams: Annotated[tuple[UpstreamConfig, ...], from_sections] = Field(
        default=(), alias="upstream", validate_default=True
    )
    routes: Array[RouteConfig] = Field(default=(), alias="route")
    issuers: Annotated[tuple[IssuerConfig, ...], from_optional_sections] = Field(
        default=(), alias="issuer", validate_default=True
    )
    logins: Array[LoginConfig] = Field(default=(), alias="login")
    directory: sections.DirectoryConfig = _section()
    dns: sections.DnsConfig = _by_default(sections.DnsConfig)
    ledger: sections.LedgerConfig = _by_default(sections.LedgerConfig)
    journal: sections.JournalConfig = _section()
    outbox: sections.OutboxConfig = _by_default(sections.OutboxConfig)
    feedback: sections.FeedbackConfig = _by_default(sections.FeedbackConfig)
    reputation: sections.ReputationConfig = _by_default(sections.ReputationConfig)
    watch: sections.WatchConfig = _by_default(sections.WatchConfig)
    simulator: sections.SimulatorConfig = _by_default(sections.SimulatorConfig)
    notifications: sections.NotificationsConfig = _by_default(sections.NotificationsConfig)
    authorization: sections.AuthorizationConfig = _by_default(sections.AuthorizationConfig)
    policy: sections.PolicyConfig = _by_default(sections.PolicyConfig)
    limits: sections.LimitsConfig = _by_default(sections.LimitsConfig)
    signing: sections.SigningConfig = _by_default(sections.SigningConfig)
    message: sections.MessageConfig = _by_default(sections.MessageConfig)
    bans: sections.BansConfig = _section()
    metrics: sections.MetricsConfig = _by_default(sections.MetricsConfig)
    http: sections.HttpConfig = _by_default(sections.HttpConfig)
    log: sections.LogConfig = _by_default(sections.LogConfig)

    _warnings: tuple[str, ...] = PrivateAttr(())
    _file: Path | None = PrivateAttr(None)

    def as_read(self, file: Path, warnings: Iterable[str]) -> Self:
        """The same configuration with its file, and the warnings of its reading."""
        config = self.model_copy()
        config._warnings = tuple(dict.fromkeys(warnings))
        config._file = file.absolute()
        return config

    @property
    def file(self) -> Path | None:
        """The file that it was read from, for a reload; ``None`` if code made it."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about settings that are allowed but unwise."""
        return (*self._warnings, *self._unwise())

    def _unwise(self) -> Iterator[str]:
        for upstream in self.upstreams:
            if upstream.tls == "off" and not is_loopback(upstream.host):
                key = f"upstream.{upstream.name}.tls"
                yield f'{key}: "off" sends all mail to {upstream.host} in clear text'
        yield from unused_upstreams(self.upstreams, self.routes)
        yield from self.ledger.unwise()
        if self.feedback.credentials and not is_loopback(self.http.address):
            yield (
                "feedback.credential_file: posts bring the credential to "
                f"{self.http.address} in clear text; have http.address on loopback, behind a "
                "proxy with TLS"
            )
        if self.watch.operator is not None and not self.has_outbox:
            yield "watch.operator: nothing is mailed without journal.enabled and outbox.enabled"

    @cached_property
    def hostname(self) -> str:
        """The gate's own name; by default the system's, which may take a DNS query."""
        return self.gate.hostname or socket.getfqdn()

    @property
    def directory_url(self) -> str:
        """The URL of the directory's database: by default a file in the state folder."""
        return self.directory.url_or(self.gate.state_dir / "directory.sqlite")

    @property
    def journal_url(self) -> str:
        """The URL of the journal's database: by default a file in the state folder."""
        return self.journal.url_or(self.gate.state_dir / "journal.sqlite")

    @property
    def has_reputation(self) -> bool:
        """True if senders are judged: by what the journal has of them."""
        return self.journal.enabled and self.reputation.enabled

    @property
    def has_outbox(self) -> bool:
        """True if events and reports are kept until they are delivered: beside the journal."""
        return self.journal.enabled and self.outbox.enabled

    @property
    def default_limits(self) -> SendingLimits:
        """The sending limits of an account without its own."""
        return SendingLimits(self.limits.max_24h_send, self.limits.max_send_rate_per_s)

    def with_helo(self, upstream: UpstreamConfig) -> UpstreamConfig:
        """The upstream with its ``helo`` filled in."""
        return upstream.model_copy(update={"helo": upstream.helo or self.hostname})

    @property
    def deadline_s(self) -> float:
        """The time that the longest delivery may take, whatever upstreams it is routed to."""
        return max(upstream.deadline_s for upstream in self.upstreams)

    @cached_property
    def route_table(self) -> RouteTable:
        """The ways of messages; without ``[[route]]`` one to all upstreams."""
        return route_table(self.upstreams, self.routes)

    def checks(self) -> Sequence[Check]:
        """The checks of how sections go together, each by itself."""
        return (
            self._about_upstreams,
            self._about_addresses,
            self._about_leases,
            self._about_waits,
            self._about_octets,
            self._about_workers,
            lambda: issuer_problems(self.issuers, self.logins),
            self._about_reputation,
            self._about_feedback,
        )

    def contradictions(self) -> Iterator[Problem]:
        """The keys of one section that do not go together with those of another."""
        for check in self.checks():
            yield from check()

    def _about_reputation(self) -> Iterator[Problem]:
        if self.reputation.auto_pause and not self.journal.enabled:
            text = "needs journal.enabled: the rates are those of what it has"
            yield ("reputation", "auto_pause"), text

    def _about_feedback(self) -> Iterator[Problem]:
        if self.feedback.enabled and not self.has_outbox:
            text = "needs journal.enabled and outbox.enabled: they keep what bounces are about"
            yield ("feedback", "enabled"), text
        if self.feedback.credentials and not (self.has_outbox and self.http.enabled):
            text = "needs http.enabled, journal.enabled and outbox.enabled"
            yield ("feedback", "credential_file"), text

    def _about_workers(self) -> Iterator[Problem]:
        if self.ledger.kind == "memory" and (self.gate.workers or 1) > 1:
            text = 'must be 1 with ledger.kind = "memory", which belongs to one process'
            yield ("gate", "workers"), text
        for upstream in self.upstreams:
            if (self.gate.workers or 1) > upstream.max_connections:
                most = f"upstream.{upstream.name}.max_connections ({upstream.max_connections})"
                text = f"must be at most {most}: each worker needs a connection"
                yield ("gate", "workers"), text

    def _about_upstreams(self) -> Iterator[Problem]:
        ports = [listener.name for listener in self.listeners]
        ports += [api.label for api in self.apis]
        yield from route_problems(self.upstreams, self.routes, ports)
        for upstream in self.upstreams:
            for one in self.listeners:
                if one.port == upstream.port and is_same_place(one.address, upstream.host):
                    text = f"is the address of listener.{one.name}: mail would loop"
                    yield ("upstream", upstream.name, "port"), text

    def _about_octets(self) -> Iterator[Problem]:
        """The octets of one message must fit into those of all, in memory and in files."""
        gate, largest = self.gate, self.gate.max_message_octets
        needs = {"max_inflight_octets": ("gate.max_message_octets", largest)}
        if largest > self.message.spool_octets:
            needs["max_spooled_octets"] = needs["max_inflight_octets"]
            needs["max_inflight_octets"] = "message.spool_octets", self.message.spool_octets
        for key, (other, octets) in needs.items():
            if getattr(gate, key) < octets:
                yield ("gate", key), f"must be at least {other} ({octets})"

    def _about_waits(self) -> Iterator[Problem]:
        patience_s = CLIENT_PATIENCE_S
        for upstream in self.upstreams:
            left_s = patience_s - upstream.deadline_s
            if self.limits.max_wait_s >= left_s:
                text = f"must be less than {left_s:g}: a client waits {patience_s} seconds"
                rest = f"and upstream.{upstream.name}.deadline_s takes the rest"
                yield ("limits", "max_wait_s"), f"{text}, {rest}"

    def _about_leases(self) -> Iterator[Problem]:
        for upstream in self.upstreams:
            if upstream.deadline_s >= self.ledger.lease_s:
                text = f"must be more than upstream.{upstream.name}.deadline_s"
                yield ("ledger", "lease_s"), f"{text} ({upstream.deadline_s:g})"

    @property
    def ledger_path(self) -> Path:
        """The ledger's file, for kind "sqlite"."""
        return self.ledger.path or self.gate.state_dir / "ledger.sqlite"

    @property
    def control_path(self) -> Path:
        """The control socket, for commands that ask the running gate."""
        return self.gate.control_socket or self.gate.state_dir / "control.sock"

    def addresses(self) -> list[tuple[str, str, int]]:
        """Section, address and port of everything that the gate listens on."""
        ports = (*self.listeners, *self.apis)
        found = [(one.section, one.address, one.port) for one in ports]
        if self.http.enabled:
            found.append(("http", self.http.address, self.http.port))
        if self.feedback.enabled:
            found.append(("feedback", self.feedback.address, self.feedback.port))
        return found

    def _about_addresses(self) -> Iterator[Problem]:
        addresses = self.addresses()
        for index, (section, address, port) in enumerate(addresses):
            for other, others_address, others_port in addresses[:index] if port else ():
                if port == others_port and share_an_address(address, others_address):
                    text = f"{address} port {port} is already used by {other}"
                    yield (*section.split("."), "port"), text
                    break


def load_config(path: Path, *, require_files: bool = True) -> Config:
    """Read a configuration. Raises ConfigError.

    Paths in it are relative to its folder, and absolute in what is returned.
    Without ``require_files`` the files that it names need not exist yet.
    """
    reading = FileReading(path.parent.absolute(), require_files)
    try:
        config = validate(Config, read_toml(path), path, reading)
    except FileProblemsError as error:
        raise ConfigError(error.problems) from None
    return config.as_read(path, reading.warnings)
