"""The gate as an operator configures it: directory, ledger, journal, log and metrics are on."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from smtpgate.config.sections import GateConfig
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.directory.sealing import new_master_key
from tests.bench.peers.interpreter import environment, interpreter
from tests.bench.peers.peer import HOSTNAME, SENDER, Peer, Running, Setup
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, free_port
from tests.support.gate import Login
from tests.support.ledgers import redis_server
from tests.support.postgres import postgres_server

HAS_WORKERS: Final = "workers" in GateConfig.model_fields

_START_S: Final = 120.0  # documents are applied to a directory of a million identities

REGION: Final = "us-east-1"
ACCOUNT: Final = "888888888888"
_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
_SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
LOGIN: Final = Login(_KEY_ID, smtp_password(Secret(_SECRET), REGION).value)

_ACCOUNT_TOML: Final = f"""\
[accounts.{ACCOUNT}]
name = "Benchmark"
max_24h_send = -1
max_send_rate_per_s = -1

[accounts.{ACCOUNT}.users.user1]
policies = {{ send = "may-send.json" }}

[[accounts.{ACCOUNT}.users.user1.access_keys]]
id = "{_KEY_ID}"
secret_file = "secret"
"""
_MAY_SEND: Final = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"},
}


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of the directory, and other settings of the configuration."""

    keys: Mapping[str, bytes]  # by selector, for each domain
    senders: Sequence[str] = (SENDER,)  # each of another domain
    policies: int = 1  # of each domain; the last one allows
    database: str | None = None  # a URL, also of one that has other identities already
    master_key: str | None = None
    is_applied: bool = False  # the database has the senders already
    state_dir: Path | None = None
    sections: str = ""  # more of the configuration, such as [journal]

    @property
    def domains(self) -> list[str]:
        """The domains of the senders."""
        return [sender.rpartition("@")[2] for sender in self.senders]


def _policy(domain: str, allows: bool) -> object:
    """A policy of an identity: for the load's user, or as long for many others."""
    named = ["user1"] if allows else [f"mailer{number}" for number in range(12)]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/{user}"},
                "Action": ["ses:SendEmail", "ses:SendRawEmail"],
                "Resource": f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/{domain}",
                "Condition": {"StringLike": {"ses:FromAddress": f"user1@{domain}"}},
            }
            for user in named
        ],
    }


def _identity(domain: str, contents: Contents) -> str:
    names = [f"p{number}" for number in range(contents.policies)]
    policies = ", ".join(f'{name} = "{domain}.{name}.json"' for name in names)
    keys = ", ".join(
        f'{{ selector = "{selector}", key_file = "{selector}.pem" }}'
        for selector in contents.keys
    )
    return (
        f'\n[accounts.{ACCOUNT}.identities."{domain}"]\nverified = true\n'
        f"policies = {{ {policies} }}\ndkim = [{keys}]\n"
    )


def write_documents(folder: Path, contents: Contents) -> None:
    """Write the documents of the directory, with the master key and the secrets."""
    (folder / "private").mkdir(parents=True)
    secrets = {
        "private/master.key": (contents.master_key or new_master_key("bench")).encode(),
        "secret": _SECRET.encode(),
        **{f"{selector}.pem": pem for selector, pem in contents.keys.items()},
    }
    for name, octets in secrets.items():
        (folder / name).write_bytes(octets)
        (folder / name).chmod(0o600)
    accounts = _ACCOUNT_TOML
    for domain in contents.domains:
        accounts += _identity(domain, contents)
        for number in range(contents.policies):
            policy = _policy(domain, allows=number == contents.policies - 1)
            (folder / f"{domain}.p{number}.json").write_text(json.dumps(policy))
    (folder / "accounts.toml").write_text(accounts)
    (folder / "may-send.json").write_text(json.dumps(_MAY_SEND))


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the gate, and that of its upstream."""

    smtp: int
    http: int
    sink: int


def _tls(authority: Authority | None, ports: Ports) -> tuple[str, str]:
    """The keys of the listener and of the upstream."""
    if authority is None:
        return 'tls = "none"\nallow_plaintext_auth = true', 'tls = "off"'
    made = authority.certificate(HOSTNAME)
    return (
        f'tls = "starttls"\ncert_file = "{made.cert_file}"\nkey_file = "{made.key_file}"',
        f'tls = "required"\nca_file = "{authority.ca_file}"\ntls_name = "{HOSTNAME}"',
    )


def write_gate(
    folder: Path,
    contents: Contents,
    ports: Ports,
    *,
    authority: Authority | None = None,
    connections: int = 512,
    workers: int | None = None,
) -> Path:
    """Write what a gate needs into that folder, and return its configuration.

    Without ``workers`` the configuration says nothing of them, as earlier versions want it.
    """
    directory, config = folder / "directory", folder / "smtpgate.toml"
    write_documents(directory, contents)
    listener_tls, upstream_tls = _tls(authority, ports)
    url = f'url = "{contents.database}"\n' if contents.database else ""
    apply = "" if contents.is_applied else f'apply = "{directory}"\n'
    state_dir = f'state_dir = "{contents.state_dir}"\n' if contents.state_dir else ""
    config.write_text(f"""\
[gate]
hostname = "{HOSTNAME}"
region = "{REGION}"
{state_dir}{f"workers = {workers}" if workers and HAS_WORKERS else ""}

[listener.submission]
address = "{LOOPBACK}"
port = {ports.smtp}
{listener_tls}
max_connections = {connections}
max_connections_per_client = {connections}

[upstream.default]
host = "{LOOPBACK}"
port = {ports.sink}
{upstream_tls}

[directory]
{url}{apply}master_key_file = "{directory}/private/master.key"
recheck = false

[http]
enabled = true
address = "{LOOPBACK}"
port = {ports.http}

{contents.sections}
""")
    return config


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def start_gate(
    setup: Setup,
    *,
    workers: int = 1,
    contents: Contents | None = None,
    upgrades: Sequence[str] = (),
) -> Running:
    """Start a gate with so many workers; a version without workers has one.

    A database server's tables are made first, of each of the ``upgrades``.
    """
    if workers > 1 and not HAS_WORKERS:
        pytest.skip("this version of the gate has no gate.workers")
    ports = Ports(free_port(), free_port(), setup.sink_port)
    folder = setup.lab.new_folder("gate", mode=0o700)
    config = write_gate(
        folder,
        contents or Contents({key.selector: key.pem for key in setup.keys}),
        ports,
        authority=setup.authority,
        connections=max(setup.connections + 12, 100),
        workers=workers,
    )
    command, env = [interpreter()[0], "-m", "smtpgate"], environment()
    for tables in upgrades:
        upgrade = [*command, tables, "upgrade", "--config", str(config)]
        subprocess.run(upgrade, env=env, capture_output=True, check=True, timeout=60)
    setup.lab.start(
        "smtpgate",
        [*command, "serve", "--config", config],
        folder / "log",
        ready=lambda: _is_ready(ports.http),
        env=env,
        timeout_s=_START_S,
    )
    return Running(ports.smtp, LOGIN, has_tls=setup.authority is not None)


def start_fleet_gate(setup: Setup) -> Running:
    """Start a gate whose stores several hosts could share; the servers' CPU time counts too."""
    redis, postgres = redis_server(setup.lab), postgres_server(setup.lab, fsync="on")
    contents = Contents(
        {key.selector: key.pem for key in setup.keys},
        database=postgres.create_database("directory"),
        sections=f'[ledger]\nkind = "redis"\nurl = "{redis.url}"\n'
        f'[journal]\nurl = "{postgres.create_database("journal")}"\n',
    )
    return start_gate(setup, contents=contents, upgrades=("directory", "journal"))


GATE: Final = Peer("smtpgate", start_gate, is_ours=True)
GATE_2_WORKERS: Final = Peer("smtpgate-2-workers", partial(start_gate, workers=2), is_ours=True)
GATE_IN_A_FLEET: Final = Peer(
    "smtpgate-fleet", start_fleet_gate, is_ours=True, packages=("redis-server", "postgresql")
)
