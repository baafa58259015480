"""The sections of the configuration, as frozen models: keys, their kinds, their defaults.

What has to agree within a section is checked here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, model_validator

from smtpgate.config.toml import (
    Array,
    ExistingFile,
    FileOrFolder,
    Location,
    MadeFile,
    OwnPath,
    PrivateFile,
    Table,
    problems,
)
from smtpgate.config.values import (
    Address,
    Count,
    DatabaseUrl,
    Domain,
    Host,
    Label,
    LogTarget,
    Name,
    Nameserver,
    Network,
    Port,
    Quota,
    Rate,
    RedisUrl,
    Region,
    Seconds,
    SecretFile,
    is_loopback,
)
from smtpgate.core.proof.ownership import DEFAULT_LABEL
from smtpgate.core.secret import Secret

# How long a client waits for the answer to its final dot (RFC 5321 §4.5.3.2.6).
CLIENT_PATIENCE_S: Final = 600


class GateConfig(Table):
    """``[gate]``: what the gate calls itself, and how much it takes in."""

    hostname: Domain | None = None
    region: Region = "us-east-1"
    partition: Literal["aws", "aws-cn", "aws-us-gov"] = "aws"
    max_message_octets: Annotated[int, Field(ge=1024)] = 41_943_040
    max_recipients: Count = 50
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30
    max_inflight_octets: Count = 268_435_456
    max_inflight_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    reserved_inflight_octets: Annotated[int, Field(ge=0)] | None = None
    reserved_descriptors: Annotated[int, Field(ge=64)] = 256
    received_client: Literal["show", "mask"] = "show"
    state_dir: OwnPath = Field(default=Path("state"), validate_default=True)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_inflight_octets < self.max_message_octets:
            text = f"must be at least max_message_octets ({self.max_message_octets})"
            raise problems([(("max_inflight_octets",), text)])
        if self.reserve_for_small_messages >= self.max_inflight_octets:
            text = f"must be less than max_inflight_octets ({self.max_inflight_octets})"
            raise problems([(("reserved_inflight_octets",), text)])
        return self

    @property
    def reserve_for_small_messages(self) -> int:
        """Octets in flight that large messages cannot take."""
        reserved = self.reserved_inflight_octets
        return self.max_inflight_octets // 8 if reserved is None else reserved


class ListenerConfig(Table):
    """``[listener.NAME]``: a door for SMTP clients."""

    written_as: ClassVar[Mapping[str, str | None]] = {"name": None}

    name: Name
    address: Address = "127.0.0.1"
    port: Port
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    cert_file: MadeFile | None = None
    key_file: PrivateFile | None = None
    min_tls: Literal["1.2", "1.3"] = "1.2"
    allow_plaintext_auth: bool = False
    proxy_from: Array[Network] = ()
    max_connections: Count = 1000
    max_connections_per_client: Count = 100
    handshake_timeout_s: Seconds = 10
    auth_timeout_s: Seconds = 60
    command_timeout_s: Seconds = 300  # RFC 5321 §4.5.3.2.7
    reply_timeout_s: Seconds = 60
    data_timeout_s: Seconds = 600
    max_octets_before_auth: Annotated[int, Field(ge=16_384)] = 65_536
    max_unread_octets: Annotated[int, Field(ge=1024)] = 16_384
    max_auth_failures: Count = 3
    auth_failure_delay_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    max_errors: Count = 20
    max_junk_commands: Count = 100
    max_excess_recipients: Count = 1000

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = list(self._without_tls() if self.tls == "none" else self._with_tls())
        if found:
            raise problems(found)
        return self

    def _with_tls(self) -> Iterator[tuple[Location, str]]:
        for key, value in (("cert_file", self.cert_file), ("key_file", self.key_file)):
            if value is None:
                yield (key,), f'is missing; tls = "{self.tls}" needs it'
        if self.allow_plaintext_auth:
            yield ("allow_plaintext_auth",), 'is only for tls = "none"'

    def _without_tls(self) -> Iterator[tuple[Location, str]]:
        for key, value in (("cert_file", self.cert_file), ("key_file", self.key_file)):
            if value is not None:
                yield (key,), 'has no use with tls = "none"'
        if not self.allow_plaintext_auth:
            text = '"none" lets passwords pass in clear text: set allow_plaintext_auth = true'
            yield ("tls",), f"{text}, or use TLS"
        if not is_loopback(self.address):
            yield ("tls",), f'"none" is only for a loopback address, not {self.address}'


class UpstreamConfig(Table):
    """``[upstream.NAME]``: the mail server that messages are relayed to."""

    written_as: ClassVar[Mapping[str, str | None]] = {"name": None, "password": "password_file"}

    name: Name
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    tls: Literal["required", "opportunistic", "off"] = "required"
    tls_implicit: bool = False
    ca_file: ExistingFile | None = None
    tls_name: Domain | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password: SecretFile = None
    helo: Domain = ""  # stands for the gate's hostname, see Config.sole_upstream
    max_connections: Count = 20
    max_connections_per_account: Count | None = None
    max_waiting_per_account: Count = 1000
    max_idle_s: Seconds = 30
    max_messages: Count = 1000
    connect_timeout_s: Seconds = 15
    command_timeout_s: Seconds = 60
    data_timeout_s: Seconds = 180
    deadline_s: Seconds = 240
    remember_refused_s: Annotated[int, Field(ge=60)] = 7200

    @model_validator(mode="before")
    @classmethod
    def _password_comes_from_a_file(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("password"), str):
            text = "must not stand here; put it into a file and name that in `password_file'"
            raise problems([(("password",), text)])
        if "password_file" not in data:
            return data
        others = {key: value for key, value in data.items() if key != "password_file"}
        return others | {"password": data["password_file"]}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = [
            *self._about_tls(),
            *self._about_login(),
            *self._about_share(),
            *self._about_time(),
        ]
        if found:
            raise problems(found)
        return self

    @property
    def account_share(self) -> int:
        """How many connections one account may use: by default three of four, rounded up."""
        return self.max_connections_per_account or -(-self.max_connections * 3 // 4)

    def _about_share(self) -> Iterator[tuple[Location, str]]:
        share = self.max_connections_per_account
        if share is not None and share > self.max_connections:
            text = f"must be at most max_connections ({self.max_connections})"
            yield ("max_connections_per_account",), text

    def _about_tls(self) -> Iterator[tuple[Location, str]]:
        if self.tls == "off":
            for key in ("tls_implicit", "ca_file", "tls_name"):
                if getattr(self, key):
                    yield (key,), 'has no use with tls = "off"'

    def _about_login(self) -> Iterator[tuple[Location, str]]:
        if (self.username is None) != (self.password is None):
            lacking = "username" if self.username is None else "password_file"
            yield (lacking,), "is missing; username and password_file go together"
        if self.username is not None and not is_loopback(self.host):
            if self.tls == "off":
                yield ("tls",), '"off" would send the password to another machine in clear text'
            elif self.tls == "opportunistic":
                text = (
                    "verifies no certificate: the password would go to any machine that answers"
                )
                yield ("tls",), f'"opportunistic" {text}; use "required"'

    def _about_time(self) -> Iterator[tuple[Location, str]]:
        if self.deadline_s >= CLIENT_PATIENCE_S:
            text = "a client waits no longer, and sends again what was delivered"
            yield ("deadline_s",), f"must be less than {CLIENT_PATIENCE_S}: {text}"
        for key in ("connect_timeout_s", "command_timeout_s", "data_timeout_s"):
            if getattr(self, key) > self.deadline_s:
                yield (key,), f"must be at most deadline_s ({self.deadline_s:g})"


class DnsConfig(Table):
    """``[dns]``: whom to ask for the records that prove identities."""

    nameservers: Array[Nameserver] = ()
    timeout_s: Seconds = 5
    lifetime_s: Seconds = 15


class DatabaseConfig(Table):
    """A section that names a database: by its URL, or by the file that holds the URL."""

    url: DatabaseUrl | None = None
    url_file: SecretFile = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.url is not None and self.url_file is not None:
            raise problems([(("url_file",), "stands beside url; one of them is enough")])
        return self

    def url_or(self, file: Path) -> str:
        """The database's URL: without one of its own, that of a SQLite file."""
        if self.url_file is not None:
            return self.url_file.value
        return self.url or f"sqlite:///{file}"


class DirectoryConfig(DatabaseConfig):
    """``[directory]``: where accounts, users, access keys, identities and policies are kept."""

    master_key_file: OwnPath = Field(default=Path("private/master.key"), validate_default=True)
    apply: FileOrFolder | None = None
    prune: bool = False
    cache_octets: Annotated[int, Field(ge=1_000_000)] = 67_108_864
    max_stale_s: Seconds = 300
    verification_label: Label = DEFAULT_LABEL
    recheck: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.prune and self.apply is None:
            raise problems([(("prune",), "has no use without apply")])
        return self


class JournalConfig(DatabaseConfig):
    """``[journal]``: what is kept of each submission, where, and for how long."""

    enabled: bool = True
    recipients: bool = True
    subject: bool = False
    on_failure: Literal["refuse", "allow"] = "refuse"
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    max_octets: Annotated[int, Field(ge=1_000_000)] = 2_147_483_648


class AuthorizationConfig(Table):
    """``[authorization]``: how the identity of a message is found."""

    infer_arn: bool = True


class PolicyConfig(Table):
    """``[policy]``: how policy documents are read."""

    address_tag_idiom: bool = False


class LimitsConfig(Table):
    """``[limits]``: what an account may send that says nothing of its own."""

    max_24h_send: Quota = 50_000
    max_send_rate_per_s: Rate = 14
    max_wait_s: Annotated[float, Field(ge=0, le=300)] = 5
    max_refusals: Count = 300
    refusals_per_minute: Count = 60
    refusal_delay_s: Annotated[float, Field(ge=0, le=60)] = 1
    on_store_failure: Literal["refuse", "allow"] = "refuse"


class SigningConfig(Table):
    """``[signing]``: whether a message may go out without a DKIM signature."""

    require: bool = True


class MessageConfig(Table):
    """``[message]``: how strictly messages are read."""

    bare_lf: Literal["refuse", "normalize"] = "refuse"
    long_lines: Literal["refuse", "pass"] = "refuse"


class MetricsConfig(Table):
    """``[metrics]``: how many identities have metrics of their own."""

    max_identities: Annotated[int, Field(ge=0)] = 1000
    idle_s: Annotated[float, Field(gt=0)] = 3600


class HttpConfig(Table):
    """``[http]``: the door for metrics and health checks."""

    enabled: bool = True
    address: Address = "127.0.0.1"
    port: Port = 9587


class LogConfig(Table):
    """``[log]``: one JSON object a line."""

    target: LogTarget = "stderr"
    level: Literal["debug", "info", "warning", "error"] = "info"
    recipients: bool = True
    refusals_per_minute: Count = 20


class LedgerConfig(Table):
    """``[ledger]``: where sending limits are counted."""

    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    path: OwnPath | None = None
    url: RedisUrl | None = None
    url_file: SecretFile = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5
    lease_s: Annotated[float, Field(ge=60, le=86400)] = 900

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = list(self._about_places())
        if found:
            raise problems(found)
        return self

    def _about_places(self) -> Iterator[tuple[Location, str]]:
        if self.path is not None and self.kind != "sqlite":
            yield ("path",), 'is only for kind = "sqlite"'
        for key in ("url", "url_file"):
            if getattr(self, key) is not None and self.kind != "redis":
                yield (key,), 'is only for kind = "redis"'
        if self.kind == "redis" and (self.url is None) == (self.url_file is None):
            text = "is missing" if self.url is None else "stands beside url_file"
            yield ("url",), f'{text}; kind = "redis" needs one of url and url_file'

    def unwise(self) -> Iterator[str]:
        """What is allowed but unwise."""
        server = urlsplit(self.server_url.value)
        if server.scheme == "unix" or is_loopback(server.hostname or ""):
            return
        if server.scheme == "redis":
            yield "ledger: redis:// asks another machine in clear text; rediss:// is with TLS"
        options = dict(parse_qsl(server.query))
        for key, verified in (("ssl_cert_reqs", "required"), ("ssl_check_hostname", "true")):
            if options.get(key, verified).lower() != verified:
                text = f"with {key}={options[key]} any machine can answer for the server"
                yield f"ledger: {text}, and be given the password"

    @property
    def server_url(self) -> Secret:
        """Where the server is; it may hold a password."""
        return self.url_file or Secret(self.url or "")
