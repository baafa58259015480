"""The sections of the configuration as frozen models: keys, their types, their defaults."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from smtpgate.config.sound_keys import Problem
from smtpgate.config.tls_port import CertificateConfig, TlsPort
from smtpgate.config.toml import (
    Array,
    ExistingFile,
    FileOrFolder,
    MadeFile,
    OwnPath,
    PrivateFile,
    Table,
)
from smtpgate.config.values import (
    Address,
    BaseUrl,
    Count,
    DatabaseUrl,
    Domain,
    Label,
    LogTarget,
    MailAddress,
    Nameserver,
    Network,
    Port,
    Quota,
    Rate,
    RedisUrl,
    Region,
    Seconds,
    SecretFile,
    SecretsFile,
    Share,
    is_loopback,
)
from smtpgate.core.feedback.simulator import SIMULATOR_DOMAIN
from smtpgate.core.proof.ownership import DEFAULT_LABEL
from smtpgate.core.reputation.thresholds import MEASURES, SES, RatingRules, Thresholds
from smtpgate.core.secret import Secret

# Of a credential: RFC 6750 §2.1's letters, without those that Basic would confuse.
_CREDENTIAL_LETTERS: Final = 20
_CREDENTIAL: Final = re.compile(rf"[A-Za-z0-9._~+/=-]{{{_CREDENTIAL_LETTERS},200}}")


class GateConfig(Table):
    """``[gate]``: the gate's name, and its bounds for messages."""

    hostname: Domain | None = None
    region: Region = "us-east-1"
    partition: Literal["aws", "aws-cn", "aws-us-gov"] = "aws"
    max_message_octets: Annotated[int, Field(ge=1024)] = 41_943_040
    max_recipients: Count = 50
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30
    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    worker_timeout_s: Annotated[float, Field(ge=2, le=600)] = 20
    max_inflight_octets: Count = 268_435_456
    max_spooled_octets: Count = 4_294_967_296
    max_inflight_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    reserved_inflight_octets: Annotated[int, Field(ge=0)] | None = None
    reserved_descriptors: Annotated[int, Field(ge=64)] = 256
    received_client: Literal["show", "mask"] = "show"
    state_dir: OwnPath = Field(default=Path("state"), validate_default=True)
    control_socket: OwnPath | None = None

    def contradictions(self) -> Iterator[Problem]:
        """The reserve is a part of all octets in flight."""
        if self.reserve_for_small_messages >= self.max_inflight_octets:
            text = f"must be less than max_inflight_octets ({self.max_inflight_octets})"
            yield ("reserved_inflight_octets",), text

    @property
    def reserve_for_small_messages(self) -> int:
        """Octets in flight that large messages cannot take."""
        reserved = self.reserved_inflight_octets
        return self.max_inflight_octets // 8 if reserved is None else reserved


class ListenerConfig(TlsPort):
    """``[listener.NAME]``: a port for SMTP clients."""

    kind: ClassVar[str] = "listener"

    @property
    def label(self) -> str:
        """Its name alone: most ports are listeners."""
        return self.name

    tls: Literal["starttls", "implicit", "none"] = "starttls"
    allow_plaintext_auth: bool = False
    client_ca_file: ExistingFile | None = None
    client_certificate: Literal["required", "optional"] | None = None
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
    early_talkers: Literal["refuse", "allow"] = "refuse"
    max_errors: Count = 20
    max_junk_commands: Count = 100
    max_excess_recipients: Count = 1000

    def contradictions(self) -> Iterator[Problem]:
        """TLS needs a certificate; without TLS, plain text must be asked for."""
        yield from self.about_certificates(self.tls)
        if self.client_certificate and self.client_ca_file is None:
            yield ("client_certificate",), "has no effect without client_ca_file"
        yield from self._without_tls() if self.tls == "none" else self._with_tls()

    def _with_tls(self) -> Iterator[Problem]:
        if self.allow_plaintext_auth:
            yield ("allow_plaintext_auth",), 'is only for tls = "none"'

    def _without_tls(self) -> Iterator[Problem]:
        if self.client_ca_file is not None:
            yield ("client_ca_file",), 'has no effect with tls = "none"'
        if not self.allow_plaintext_auth:
            text = '"none" sends passwords in clear text: set allow_plaintext_auth = true'
            yield ("tls",), f"{text}, or use TLS"
        if not is_loopback(self.address):
            yield ("tls",), f'"none" is only for a loopback address, not {self.address}'


class ApiConfig(TlsPort):
    """``[api.NAME]``: a port for clients of Amazon SES's API."""

    kind: ClassVar[str] = "api"

    tls: Literal["implicit", "none"] = "implicit"
    allow_plaintext: bool = False
    max_connections: Count = 1000
    idle_timeout_s: Seconds = 60
    body_timeout_s: Seconds = 300
    max_inflight_octets: Annotated[int, Field(ge=1_048_576)] = 134_217_728
    max_calls: Count = 1000
    calls_per_minute: Count = 600
    max_new_keys: Count = 30
    new_keys_per_minute: Count = 30
    max_auth_failures: Count = 30
    auth_failures_per_minute: Count = 60

    def contradictions(self) -> Iterator[Problem]:
        """TLS needs a certificate; without TLS, plain text must be asked for."""
        yield from self.about_certificates(self.tls)
        if self.tls == "none":
            if not self.allow_plaintext:
                text = '"none" sends mail in clear text: set allow_plaintext = true, or use TLS'
                yield ("tls",), text
            if not is_loopback(self.address):
                yield ("tls",), f'"none" is only for a loopback address, not {self.address}'
        elif self.allow_plaintext:
            yield ("allow_plaintext",), 'is only for tls = "none"'


class DnsConfig(Table):
    """``[dns]``: the name servers for the records that prove identities."""

    nameservers: Array[Nameserver] = ()
    timeout_s: Seconds = 5
    lifetime_s: Seconds = 15


class DatabaseConfig(Table):
    """A section that names a database by its URL, or by a file with the URL."""

    url: DatabaseUrl | None = None
    url_file: SecretFile = None

    def contradictions(self) -> Iterator[Problem]:
        """One URL names the database."""
        if self.url is not None and self.url_file is not None:
            yield ("url_file",), "cannot be set together with url"

    def url_or(self, file: Path) -> str:
        """The database's URL: without one of its own, that of a SQLite file."""
        if self.url_file is not None:
            return self.url_file.value
        return self.url or f"sqlite:///{file}"


class DirectoryConfig(DatabaseConfig):
    """``[directory]``: the database of accounts, access keys, identities and policies."""

    master_key_file: OwnPath = Field(default=Path("private/master.key"), validate_default=True)
    apply: FileOrFolder | None = None
    prune: bool = False
    cache_octets: Annotated[int, Field(ge=1_000_000)] = 67_108_864
    max_stale_s: Seconds = 300
    verification_label: Label = DEFAULT_LABEL
    recheck: bool = True

    def contradictions(self) -> Iterator[Problem]:
        """Only documents that are applied can be pruned."""
        yield from super().contradictions()
        if self.prune and self.apply is None:
            yield ("prune",), "has no effect without apply"


class JournalConfig(DatabaseConfig):
    """``[journal]``: the record of each submission: its facts, its database, its lifetime."""

    enabled: bool = True
    recipients: bool = True
    subject: bool = False
    on_failure: Literal["refuse", "allow"] = "refuse"
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    max_octets: Annotated[int, Field(ge=1_000_000)] = 2_147_483_648


class OutboxConfig(Table):
    """``[outbox]``: the delivery of events and reports, and how long it is tried."""

    enabled: bool = True
    give_up_after_s: Annotated[float, Field(ge=60, le=2_592_000)] = 259_200
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 15
    concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    batch: Annotated[int, Field(ge=1, le=500)] = 50
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30


class FeedbackConfig(Table):
    """``[feedback]``: the listener for bounces of mail with a MAIL FROM domain."""

    enabled: bool = False
    address: Address = "0.0.0.0"  # noqa: S104 - bounces come from anywhere
    port: Port = 25
    domain: Domain | None = None
    key_file: SecretsFile = None
    credential_file: SecretsFile = None
    max_post_octets: Annotated[int, Field(ge=65_536)] = 4_194_304
    max_post_records: Count = 1000
    max_posts: Count = 10
    tls_cert_file: MadeFile | None = None
    tls_key_file: PrivateFile | None = None
    certificates: Array[CertificateConfig] = ()
    min_tls: Literal["1.2", "1.3"] = "1.2"
    handshake_timeout_s: Seconds = 10
    postmaster: MailAddress | None = None
    complaints: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,64}$")] = "complaints"
    answers: Literal["forward", "drop"] = "forward"
    max_connections: Count = 50
    max_connections_per_client: Count = 10
    max_octets: Count = 10_485_760
    timeout_s: Seconds = 300
    session_s: Seconds = 1800
    spf: Annotated[str, Field(pattern=r"^[\x21-\x7e]+( [\x21-\x7e]+)*$", max_length=200)] = "mx"

    def contradictions(self) -> Iterator[Problem]:
        """MX records need a name."""
        if self.enabled and self.domain is None:
            yield ("domain",), "is needed: the name of the listener's host, for MX records"
        files = {"tls_cert_file": self.tls_cert_file, "tls_key_file": self.tls_key_file}
        for one, other in (tuple(files), tuple(files)[::-1]):
            if files[one] is None and files[other] is not None:
                yield (one,), f"is missing; {other} needs it"
        if self.credential_file is not None and self.credential_file.value:
            words = self.credential_file.value.split()
            if not words or not all(_CREDENTIAL.fullmatch(one) for one in words):
                text = (
                    f"must have a secret of {_CREDENTIAL_LETTERS} letters or more on each line"
                )
                yield ("credential_file",), f"{text}, such as `openssl rand -hex 32' prints"

    @property
    def credentials(self) -> tuple[bytes, ...]:
        """The credentials of posts, the current one first; none if there are to be no posts."""
        secret = self.credential_file
        return () if secret is None else tuple(map(str.encode, secret.value.split()))

    @property
    def host(self) -> str:
        """The host that MX records of MAIL FROM domains name; empty if it is not enabled."""
        return (self.domain or "") if self.enabled else ""


class ReputationConfig(Table):
    """``[reputation]``: the bounce and complaint rates that senders are judged by."""

    enabled: bool = True
    bounce_review: Share = SES["bounce"].review
    bounce_pause: Share = SES["bounce"].pause
    complaint_review: Share = SES["complaint"].review
    complaint_pause: Share = SES["complaint"].pause
    min_recipients: Count = 1000
    auto_pause: bool = False

    def contradictions(self) -> Iterator[Problem]:
        """A review comes before a pause, and nobody is paused without being judged."""
        for measure in MEASURES:
            review, pause = (getattr(self, f"{measure}_{what}") for what in ("review", "pause"))
            if pause < review:
                text = f"must be at least {measure}_review ({review:g})"
                yield (f"{measure}_pause",), text
        if self.auto_pause and not self.enabled:
            yield ("auto_pause",), "has no effect with enabled = false"

    @property
    def rules(self) -> RatingRules:
        """The rules that accounts are judged by."""
        return RatingRules(
            bounce=Thresholds(self.bounce_review, self.bounce_pause),
            complaint=Thresholds(self.complaint_review, self.complaint_pause),
            min_recipients=self.min_recipients,
            auto_pause=self.auto_pause,
        )


class SimulatorConfig(Table):
    """``[simulator]``: the mailbox simulator, whose addresses try out notifications."""

    enabled: bool = True
    domain: Domain = SIMULATOR_DOMAIN

    @property
    def host(self) -> str:
        """The domain of its addresses; empty if it is not enabled."""
        return self.domain if self.enabled else ""


class NotificationsConfig(Table):
    """``[notifications]``: the webhooks of topics, and the URLs that they are given."""

    base_url: BaseUrl | None = None
    allow_plaintext: bool = False
    allow_private: bool = False
    ca_file: ExistingFile | None = None
    cert_file: ExistingFile | None = None
    key_file: PrivateFile | None = None

    def contradictions(self) -> Iterator[Problem]:
        """A certificate needs its key, and the other way round."""
        for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(self, one) is None and getattr(self, other) is not None:
                yield (one,), f"is missing; {other} needs it"


class WatchConfig(Table):
    """``[watch]``: access keys whose use differs from before, and what is done about them."""

    enabled: bool = True
    action: Literal["report", "slow", "disable"] = "report"
    operator: MailAddress | None = None
    alarm_score: Annotated[int, Field(ge=2, le=20)] = 4
    learn_days: Annotated[int, Field(ge=1, le=90)] = 7
    slow_to_per_s: Annotated[float, Field(gt=0, le=1000)] = 0.1


class AuthorizationConfig(Table):
    """``[authorization]``: how the gate finds the identity of a message."""

    infer_arn: bool = True


class PolicyConfig(Table):
    """``[policy]``: how the gate reads policy documents."""

    address_tag_idiom: bool = False


class LimitsConfig(Table):
    """``[limits]``: the default sending limits of an account."""

    max_24h_send: Quota = 50_000
    max_send_rate_per_s: Rate = 14
    max_wait_s: Annotated[float, Field(ge=0, le=300)] = 5
    max_refusals: Count = 300
    refusals_per_minute: Count = 60
    refusal_delay_s: Annotated[float, Field(ge=0, le=60)] = 1
    on_store_failure: Literal["refuse", "allow"] = "refuse"


class SigningConfig(Table):
    """``[signing]``: whether all mail is signed, and how keys of DKIM may be."""

    require: bool = True
    min_rsa_bits: Annotated[int, Field(ge=1024, le=4096)] = 2048
    hosted_zone: Domain | None = None


class MessageConfig(Table):
    """``[message]``: how strictly the gate reads messages, and where large ones are kept."""

    bare_lf: Literal["refuse", "normalize"] = "refuse"
    long_lines: Literal["refuse", "pass"] = "refuse"
    max_received: Count = 50
    spool_octets: Annotated[int, Field(ge=65_536)] = 1_048_576


class BansConfig(Table):
    """``[bans]``: clients that fail too often are turned away for a while."""

    enabled: bool = True
    max_failures: Count = 20
    window_s: Seconds = 600
    first_s: Seconds = 60
    longest_s: Seconds = 86_400
    max_clients: Count = 10_000
    trusted: Array[Network] = ()

    def contradictions(self) -> Iterator[Problem]:
        """The first ban is not longer than the longest."""
        if self.longest_s < self.first_s:
            yield ("longest_s",), "is less than first_s"


class MetricsConfig(Table):
    """``[metrics]``: how many identities have metrics of their own."""

    max_identities: Annotated[int, Field(ge=0)] = 1000
    idle_s: Annotated[float, Field(gt=0)] = 3600


class HttpConfig(Table):
    """``[http]``: the port for metrics and health checks."""

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
    """``[ledger]``: the store that counts against sending limits."""

    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    path: OwnPath | None = None
    url: RedisUrl | None = None
    url_file: SecretFile = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5
    lease_s: Annotated[float, Field(ge=60, le=86400)] = 900

    def contradictions(self) -> Iterator[Problem]:
        """Each kind has its own keys."""
        if self.path is not None and self.kind != "sqlite":
            yield ("path",), 'is only for kind = "sqlite"'
        for key in ("url", "url_file"):
            if getattr(self, key) is not None and self.kind != "redis":
                yield (key,), 'is only for kind = "redis"'
        if self.kind == "redis" and (self.url is None) == (self.url_file is None):
            missing = 'is missing; kind = "redis" needs one of url and url_file'
            both = "cannot be set together with url_file"
            yield ("url",), missing if self.url is None else both

    def unwise(self) -> Iterator[str]:
        """Warnings about settings that are allowed but unwise."""
        server = urlsplit(self.server_url.value)
        if server.scheme == "unix" or is_loopback(server.hostname or ""):
            return
        if server.scheme == "redis":
            yield "ledger: redis:// connects to another machine without TLS; use rediss://"
        options = dict(parse_qsl(server.query))
        for key, verified in (("ssl_cert_reqs", "required"), ("ssl_check_hostname", "true")):
            if options.get(key, verified).lower() != verified:
                text = f"with {key}={options[key]} any machine can answer for the server"
                yield f"ledger: {text}, and be given the password"

    @property
    def server_url(self) -> Secret:
        """The URL of the server; it may contain a password."""
        return self.url_file or Secret(self.url or "")
