"""The gate as an operator runs it: a process of its own, with a configuration file.

The directory holds the two accounts of the announcement: an identity owner with a verified
domain, and a delegate sender whose user may send as ``marketing+…`` of that domain.
"""

import base64
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from smtpgate.demo.verify import verify
from tests.support.activation import SocketUnit
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Daemon, Lab, free_port
from tests.support.directory import MASTER_KEYS
from tests.support.dnsserver import dkim_record
from tests.support.forks import Fork, completed
from tests.support.json_lines import json_lines
from tests.support.world import (
    DELEGATE,
    DOMAIN_NAME,
    IDENTITY,
    PASSWORD,
    REGION,
    SECRET,
    grant,
    may_send,
    sent_as,
    two_accounts,
)

ROOT: Final = Path(__file__).resolve().parents[2]
HOSTNAME: Final = "gate.example.com"
SENDER: Final = f"marketing+news@{DOMAIN_NAME}"
BOUNCES_TO: Final = f"marketing+bounces@{DOMAIN_NAME}"
_ACCESS_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"

_MARKETER: Final = grant(
    Sid="AuthorizeMarketer",
    Principal={"AWS": f"arn:aws:iam::{DELEGATE}:user/mailer"},
    Action=["ses:SendEmail", "ses:SendRawEmail"],
    Condition=sent_as(f"marketing+*@{DOMAIN_NAME}"),
)
ACCOUNTS: Final = two_accounts(
    policy=("marketer", "policies/marketer.json"),
    dkim={"rsa2026": "keys/rsa2026.pem", "ed2026": "keys/ed2026.pem"},
    user_policy="policies/may-send.json",
    access_key=(_ACCESS_KEY_ID, f"keys/{_ACCESS_KEY_ID}.secret"),
    limits=(100000, 10000),
)


def letter(message_id: str, body: str, *, author: str = SENDER, more_fields: str = "") -> bytes:
    """A message as a delegate sender writes it, with the three ARNs, in CRLF lines."""
    header = (
        f"X-SES-SOURCE-ARN: {IDENTITY}\r\n"
        f"X-SES-FROM-ARN: {IDENTITY}\r\n"
        f"X-SES-RETURN-PATH-ARN: {IDENTITY}\r\n"
        f"From: Example News <{author}>\r\n"
        "To: Bob <bob@example.net>\r\n"
        f"Subject: News {message_id}\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{message_id}@example.com>\r\n"
        f"{more_fields}\r\n"
    )
    return (header + body).encode()


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials of an SMTP client."""

    username: str
    password: str


LOGIN: Final = Login(_ACCESS_KEY_ID, PASSWORD)


@cache
def _keys() -> tuple[rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey]:
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    )


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def txt_records() -> dict[str, str]:
    """The TXT records that the identity owner publishes."""
    rsa_key, ed_key = _keys()
    rsa_public = rsa_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # RFC 8463 §4.2: the 32 octets of the key, not its SubjectPublicKeyInfo
    ed_public = ed_key.public_key().public_bytes_raw()
    return {
        f"rsa2026._domainkey.{DOMAIN_NAME}": dkim_record(base64.b64encode(rsa_public).decode()),
        f"ed2026._domainkey.{DOMAIN_NAME}": dkim_record(
            base64.b64encode(ed_public).decode(), "ed25519"
        ),
    }


def is_signed(message: bytes) -> bool:
    """True if the owner's first DKIM signature is on it and verifies."""
    records = {f"{name}.": text.encode() for name, text in txt_records().items()}
    return verify(message, records.get)


def _write_directory(folder: Path, accounts: str) -> None:
    rsa_key, ed_key = _keys()
    for name in ("policies", "keys"):
        (folder / name).mkdir()
    (folder / "accounts.toml").write_text(accounts)
    (folder / "policies/marketer.json").write_text(_MARKETER)
    (folder / "policies/may-send.json").write_text(may_send())
    secrets = {
        f"{_ACCESS_KEY_ID}.secret": SECRET.encode(),
        "master.key": MASTER_KEYS.encode(),
        "rsa2026.pem": _pem(rsa_key),
        "ed2026.pem": _pem(ed_key),
    }
    for name, octets in secrets.items():
        (folder / "keys" / name).write_bytes(octets)
        (folder / "keys" / name).chmod(0o600)


@dataclass(frozen=True, slots=True)
class GatePlan:
    """The settings of a gate; ports are chosen when it is made."""

    upstream_port: int
    upstream: Mapping[str, str | Path | int] = field(default_factory=dict)
    submission_port: int = field(default_factory=free_port)
    submissions_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    directory_url: str | None = None
    state_dir: Path | None = None
    accounts: str = ACCOUNTS
    open_files: int | None = None
    sections: str = ""  # more of the configuration, such as [ledger]
    more_of_directory: str = ""  # lines of that section
    program: tuple[str, ...] = ("smtpgate",)  # a module, and words before those of `serve'
    skew_s: float = 0  # how wrong the clock of its host is
    has_movable_clock: bool = False
    workers: int = 1
    gate_keys: str = ""  # more keys of its section [gate]
    listener_keys: str = ""  # more keys of its section [listener.submission]
    api_port: int | None = None  # of the API of Amazon SES, with TLS
    sockets: SocketUnit | None = None  # that are passed to it


class Gate:
    """A running gate."""

    def __init__(self, daemon: Daemon, plan: GatePlan, config: Path) -> None:
        self.daemon = daemon
        self.config = config
        self.port = plan.submission_port
        self.tls_port = plan.submissions_port
        self.plan = plan

    def log_lines(self) -> list[dict[str, Any]]:
        """Its log, one JSON object a line."""
        return json_lines(self.daemon.log())

    def terminate(self) -> None:
        """Ask it to drain and stop (SIGTERM); returns at once."""
        self.daemon.signal(signal.SIGTERM)

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Run `smtpgate reload', and wait for its end."""
        return completed("reload", "--config", self.config)

    def move_clock(self) -> None:
        """Move its clock on by 200 seconds (see ``tests/support/skewed.py``)."""
        assert self.plan.has_movable_clock
        self.daemon.signal(signal.SIGUSR2)

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        self.daemon.signal(signal.SIGKILL)
        self.daemon.wait()


def _toml(value: str | Path | int) -> str:
    # For these values JSON's form is TOML's.
    return json.dumps(value if isinstance(value, int) else str(value))


def _config(plan: GatePlan, authority: Authority, directory: Path) -> str:
    certificate = authority.certificate(HOSTNAME)
    files = (
        f"cert_file = {_toml(certificate.cert_file)}\n"
        f"key_file = {_toml(certificate.key_file)}\n"
    )
    upstream: Mapping[str, str | Path | int] = {
        "host": LOOPBACK,
        "tls": "off",
        **plan.upstream,
    }
    return "\n".join(
        [
            f'[gate]\nhostname = "{HOSTNAME}"\nregion = "{REGION}"\n'
            f"workers = {plan.workers}\n{plan.gate_keys}\n"
            + (f"state_dir = {_toml(plan.state_dir)}\n" if plan.state_dir else ""),
            f'[listener.submission]\naddress = "{LOOPBACK}"\nport = {plan.submission_port}\n'
            f'tls = "starttls"\n{files}{plan.listener_keys}\n',
            f'[listener.submissions]\naddress = "{LOOPBACK}"\nport = {plan.submissions_port}\n'
            f'tls = "implicit"\n{files}',
            f"[upstream.default]\nport = {plan.upstream_port}",
            *(f"{key} = {_toml(value)}" for key, value in upstream.items()),
            f"\n[directory]\napply = {_toml(directory)}\n"
            f"master_key_file = {_toml(directory / 'keys/master.key')}\nrecheck = false\n"
            + (f"url = {_toml(plan.directory_url)}\n" if plan.directory_url else "")
            + plan.more_of_directory,
            f'[http]\naddress = "{LOOPBACK}"\nport = {plan.http_port}\n',
            f'[api.ses]\naddress = "{LOOPBACK}"\nport = {plan.api_port}\n{files}'
            if plan.api_port
            else "",
            plan.sections,
        ]
    )


def _takes_mail(http_port: int) -> bool:
    """True once it is ready, or is only waiting for an upstream."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{http_port}/readyz", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        checks = json.loads(error.read())["checks"]
        return all(checks.get(name) == "open" for name in ("listeners", "directory"))
    except OSError:
        return False


def start_gate(lab: Lab, authority: Authority, plan: GatePlan) -> Gate:
    """Start the gate and wait until it takes mail."""
    folder = lab.new_folder("gate")
    directory = lab.new_folder("directory")
    _write_directory(directory, plan.accounts)
    config = folder / "smtpgate.toml"
    config.write_text(_config(plan, authority, directory))
    skewed = ("tests.support.skewed", str(plan.skew_s))
    program = skewed if plan.skew_s or plan.has_movable_clock else plan.program
    words: list[str | Path] = ["-m", *program, "serve", "--config", config]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log_file = folder / "log"
    if lab.has_forks and plan.open_files is None:
        fork = Fork(
            *words,
            output=log_file,
            environment=environment,
            has_own_session=True,
            sockets=plan.sockets.sockets if plan.sockets else None,
        )
        daemon = Daemon("smtpgate", fork, log_file)
        return Gate(lab.wait_for(daemon, lambda: _takes_mail(plan.http_port)), plan, config)
    limit = [] if plan.open_files is None else ["prlimit", f"--nofile={plan.open_files}"]
    words = [*limit, sys.executable, *words]
    daemon = lab.start(
        "smtpgate",
        words if plan.sockets is None else plan.sockets.words(words),
        log_file,
        pass_fds=() if plan.sockets is None else plan.sockets.descriptors,
        ready=lambda: _takes_mail(plan.http_port),
        env=environment,
    )
    return Gate(daemon, plan, config)


def workers_of(gate: Gate) -> dict[str, int]:
    """The process ids of the workers, by number, as the log has them; none of one process."""
    found: dict[str, int] = {}
    for line in gate.log_lines():
        if line["event"] == "started":
            found |= line.get("workers", {})
        elif line["event"] == "worker started":
            found[str(line["worker"])] = line["pid"]
    return found


@contextmanager
def logged_in(gate: Gate, context: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    """Connect and log in; unlike smtplib's own context, say no QUIT to a gate that is gone."""
    with closing(smtplib.SMTP(LOOPBACK, gate.port, timeout=30)) as client:
        client.starttls(context=context)
        client.login(LOGIN.username, LOGIN.password)
        yield client
