"""``[upstream.NAME]``: a mail server that messages are relayed to, as a frozen model."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, model_validator

from smtpgate.config.oauth import MECHANISMS, Auth, OAuthConfig, login_problems
from smtpgate.config.reach import Sources, tls_problems
from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import ExistingFile, ExistingPrivateFile, Table, problems
from smtpgate.config.values import Count, Domain, Host, Name, Seconds, SecretFile, is_loopback
from smtpgate.core.sasl_mechanism import Mechanism

# How long a client waits for the reply to its final dot (RFC 5321 §4.5.3.2.6).
CLIENT_PATIENCE_S: Final = 600


class UpstreamConfig(Table):
    """``[upstream.NAME]``: a mail server that messages are relayed to."""

    written_as: ClassVar[Mapping[str, str | None]] = {"name": None, "password": "password_file"}

    name: Name
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    priority: Annotated[int, Field(ge=0, le=65535)] = 10
    weight: Annotated[int, Field(ge=1, le=65535)] = 1
    tls: Literal["required", "opportunistic", "off"] = "required"
    tls_implicit: bool = False
    ca_file: ExistingFile | None = None
    cert_file: ExistingFile | None = None
    key_file: ExistingPrivateFile | None = None
    min_tls: Literal["1.2", "1.3"] = "1.2"
    tls_name: Domain | None = None
    source_address: Sources = ()
    username: Annotated[str, Field(min_length=1)] | None = None
    password: SecretFile = None
    auth: Auth | None = None
    oauth: OAuthConfig | None = None
    helo: Domain = ""  # empty: the gate's hostname, see Config.with_helo
    chunking: bool = True
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
    max_failures: Annotated[int, Field(ge=0, le=1000)] = 5
    probe_interval_s: Annotated[float, Field(ge=0, le=3600)] = 30
    max_signatures: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _password_comes_from_a_file(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("password"), str):
            text = (
                "must not be in the configuration; put it into a file and set `password_file'"
            )
            raise problems([(("password",), text)])
        if "password_file" not in data:
            return data
        others = {key: value for key, value in data.items() if key != "password_file"}
        return others | {"password": data["password_file"]}

    def contradictions(self) -> Iterator[Problem]:
        """TLS, login, connections and times, each by its own rule."""
        yield from self._about_tls()
        yield from self._about_login()
        yield from self._about_connections()
        yield from self._about_time()

    @property
    def account_share(self) -> int:
        """The connections that one account may use: by default three of four, rounded up."""
        return self.max_connections_per_account or -(-self.max_connections * 3 // 4)

    def _about_connections(self) -> Iterator[Problem]:
        share = self.max_connections_per_account
        if share is not None and share > self.max_connections:
            text = f"must be at most max_connections ({self.max_connections})"
            yield ("max_connections_per_account",), text

    def _about_tls(self) -> Iterator[Problem]:
        keys = {
            "tls_implicit": self.tls_implicit,
            "ca_file": self.ca_file is not None,
            "tls_name": self.tls_name is not None,
            "cert_file": self.cert_file is not None,
            "key_file": self.key_file is not None,
            "min_tls": self.min_tls != "1.2",
        }
        yield from tls_problems(self.tls, [key for key, is_set in keys.items() if is_set])

    @property
    def mechanism(self) -> Mechanism | None:
        """The SASL mechanism to log in by; ``None`` for the best one that is offered."""
        return None if self.auth is None else MECHANISMS[self.auth]

    def _about_login(self) -> Iterator[Problem]:
        yield from login_problems(
            username=self.username,
            has_password=self.password is not None,
            has_oauth=self.oauth is not None,
            auth=self.auth,
            tls=self.tls,
            is_local=is_loopback(self.host),
        )

    def _about_time(self) -> Iterator[Problem]:
        if self.deadline_s >= CLIENT_PATIENCE_S:
            text = "a client gives up then, and sends the delivered message again"
            yield ("deadline_s",), f"must be less than {CLIENT_PATIENCE_S}: {text}"
        for key in ("connect_timeout_s", "command_timeout_s", "data_timeout_s"):
            if (seconds := getattr(self, key)) > self.deadline_s:
                default = "" if key in self.model_fields_set else ", which is the default"
                text = f"must be at most deadline_s ({self.deadline_s:g}), not {seconds:g}"
                yield (key,), text + default
