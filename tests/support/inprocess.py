"""A real gate inside the test's own event loop, with a sink as its upstream.

The directory has the announcement's two accounts. The delegate's user ``mailer`` may send as
``marketing`` with any tag; its user ``intern`` has no policy; both accounts' roots have keys.
"""

import shutil
import socket
import sqlite3
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import trustme

from smtpgate.clock import SystemClock
from smtpgate.config import Config, load_config
from smtpgate.demo.sink import Sink
from smtpgate.demo.verify import verify
from smtpgate.gate.directory import open_directory
from smtpgate.gate.gate import Gate
from smtpgate.gate.journal import new_journal_store
from smtpgate.gate.serve import open_gate as open_configured_gate
from smtpgate.ports import Clock
from smtpgate.signing.private_keys import dns_record, generate_private_key, load_private_key
from tests.support.dialog import Dialog, close_dialogs
from tests.support.directory import MASTER_KEYS
from tests.support.world import (
    DELEGATE,
    DOMAIN_NAME,
    IDENTITY,
    OWNER,
    PASSWORD,
    SECRET,
    grant,
    may_send,
    sent_as,
    two_accounts,
)

# The database before and after documents were applied, by all that it depends on.
_STATE: Final[dict[str, bytes]] = {}
_APPLIED: Final[dict[object, bytes]] = {}
ARNS: Final = f"X-SES-SOURCE-ARN: {IDENTITY}\r\nX-SES-FROM-ARN: {IDENTITY}\r\n"
MESSAGE: Final = (
    f"{ARNS}From: Marketing <marketing@ses-example.com>\r\nTo: jane@example.net\r\n"
    "Subject: Spring\r\n\r\nHello Jane.\r\n"
)
_MARKETING: Final = grant(
    Sid="AuthorizeMarketer",
    Condition=sent_as(f"marketing@{DOMAIN_NAME}", f"marketing+*@{DOMAIN_NAME}"),
)
_MORE_OF_OWNER: Final = f"""\
max_24h_send = 1000
max_send_rate_per_s = 1000
[[accounts.{OWNER}.access_keys]]
id = "AKIAOWNERROOT0000000"
secret_file = "secret"
"""
_INTERN: Final = f"""\
[accounts.{DELEGATE}.users.intern]
[[accounts.{DELEGATE}.users.intern.access_keys]]
id = "AKIAINTERN0000000000"
secret_file = "secret"
"""
_ACCOUNTS: Final = (
    two_accounts(
        policy=("marketing", "marketing.json"),
        dkim={"test": "dkim.pem"},
        user_policy="may-send.json",
        access_key=("AKIAMAILER0000000000", "secret"),
        limits=(1000, 1000),
        more_of_owner=_MORE_OF_OWNER,
    )
    + _INTERN
)
_CONFIG: Final = """\
[gate]
hostname = "gate.example"
drain_s = 5
{gate}
[listener.starttls]
address = "127.0.0.1"
port = 0
tls = "starttls"
cert_file = "tls.crt"
key_file = "tls.key"
auth_failure_delay_s = 0
{listener}
[listener.tls]
address = "127.0.0.1"
port = 0
tls = "implicit"
cert_file = "tls.crt"
key_file = "tls.key"
[listener.plain]
address = "127.0.0.1"
port = 0
tls = "none"
allow_plaintext_auth = true
auth_failure_delay_s = 0
{listener}
[upstream.sink]
host = "{host}"
port = {port}
tls = "{tls}"
{upstream}
[directory]
apply = "directory"
prune = true
master_key_file = "master.key"
recheck = false
[http]
address = "127.0.0.1"
port = 0
[log]
target = "log"
{sections}
"""


@cache
def _dkim_pem() -> bytes:
    return generate_private_key("ed25519")


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def _certificate() -> trustme.LeafCert:
    return _authority().issue_cert("gate.example", "127.0.0.1")


def dkim_dns_record() -> str:
    """The record to publish for the key of the owner's domain."""
    return dns_record(load_private_key(_dkim_pem()))


def authority_pem() -> bytes:
    """The certificate of the authority that the gate's own is signed by."""
    return _authority().cert_pem.bytes()


def certificate_pem(name: str, not_after: datetime | None = None) -> bytes:
    """Another key and certificate of that authority."""
    leaf = _authority().issue_cert(name, not_after=not_after)
    return leaf.private_key_and_cert_chain_pem.bytes()


def client_tls() -> ssl.SSLContext:
    """The TLS context of a client that trusts the gate, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


Opened: TypeAlias = tuple[Gate, Sink]


@asynccontextmanager
async def open_gate(
    folder: Path,
    *,
    accounts: str = "",
    replace: tuple[str, str] = ("", ""),
    files: dict[str, str] | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    tls: str = "off",
    clock: Clock | None = None,
    inherited: Mapping[str, socket.socket] | None = None,
    **settings: str,
) -> AsyncIterator[Opened]:
    """Start a gate and its sink.

    ``accounts`` is added to accounts.toml after ``replace`` was done in it, ``files`` go into
    the directory, ``host``, ``port`` and ``tls`` are another upstream's, ``clock`` is
    asked by the gate for the time, and ``settings`` (gate, listener, upstream, sections) are
    TOML lines for the configuration.
    """
    directory = folder / "directory"
    directory.mkdir()
    (directory / "accounts.toml").write_text(_ACCOUNTS.replace(*replace) + accounts)
    (directory / "marketing.json").write_text(_MARKETING)
    (directory / "may-send.json").write_text(may_send("ses:Send*"))
    (directory / "secret").write_text(SECRET)
    (directory / "secret").chmod(0o600)
    (directory / "dkim.pem").write_bytes(_dkim_pem())
    (directory / "dkim.pem").chmod(0o600)
    for name, text in (files or {}).items():
        (directory / name).write_text(text)
    _certificate().private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.key"))
    _certificate().private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.crt"))
    (folder / "tls.key").chmod(0o600)
    async with Sink() as sink:
        lines = dict.fromkeys(("gate", "listener", "upstream", "sections"), "") | settings
        if "probe_interval_s" not in lines["upstream"]:
            # A test counts the connections of its messages.
            lines["upstream"] = f"{lines['upstream']}\nprobe_interval_s = 0"
        config = folder / "smtpgate.toml"
        config.write_text(_CONFIG.format(host=host, port=port or sink.port, tls=tls, **lines))
        (folder / "master.key").write_text(MASTER_KEYS)
        (folder / "master.key").chmod(0o600)
        loaded = load_config(config)
        key = (
            (directory / "accounts.toml").read_text(),
            tuple(sorted((files or {}).items())),
            clock and clock.now(),
        )
        state = folder / "state"
        await _furnish(folder, state, _APPLIED.get(key))
        is_furnished = key in _APPLIED and loaded.gate.state_dir == state
        started = _without_documents(loaded) if is_furnished else loaded
        async with open_configured_gate(started, clock=clock, inherited=inherited) as gate:
            gate.config = gate.host.config = loaded
            if key not in _APPLIED:
                database = loaded.gate.state_dir / "directory.sqlite"
                with closing(sqlite3.connect(database)) as connection:
                    _APPLIED[key] = connection.serialize()
            try:
                yield gate, sink
            finally:
                await close_dialogs()
                await gate.stop(drain_s=0, finish_s=0)


def _without_documents(config: Config) -> Config:
    """The files of a gate whose directory has the documents' objects already."""
    directory = config.directory.model_copy(update={"apply": None})
    return config.model_copy(update={"directory": directory})


async def _furnish(folder: Path, state: Path, directory: bytes | None) -> None:
    """Put there what a first start makes, and the directory: both take long to make."""
    if not _STATE:
        await _begin(folder)
        _STATE.update({path.name: path.read_bytes() for path in state.iterdir()})
        shutil.rmtree(state)
    state.mkdir(mode=0o700)
    files = _STATE if directory is None else _STATE | {"directory.sqlite": directory}
    for name, octets in files.items():
        (state / name).touch(mode=0o600)
        (state / name).write_bytes(octets)


async def _begin(folder: Path) -> None:
    """Make what the first start of a gate makes, with the least configuration."""
    plain = folder / "plain.toml"
    plain.write_text(
        _CONFIG.format(
            host="127.0.0.1",
            port=1,
            tls="off",
            gate="",
            listener="",
            upstream="",
            sections="",
        )
    )
    config = load_config(plain)
    plain.unlink()
    async with open_directory(config, SystemClock(), []):
        pass
    journal = new_journal_store(config)
    await journal.open(may_upgrade=True)
    await journal.close()


def auth_plain(key_id: str = "AKIAMAILER0000000000", password: str = PASSWORD) -> str:
    """The initial response of AUTH PLAIN."""
    return b64encode(f"\0{key_id}\0{password}".encode()).decode()


def facts() -> dict[str, str]:
    """The values that dialogues may fill in; ``message`` is escaped for their ``C=`` lines."""
    return {
        "plain": auth_plain(),
        "plain_as_other": b64encode(f"ceo\0AKIAMAILER0000000000\0{PASSWORD}".encode()).decode(),
        "user64": b64encode(b"AKIAMAILER0000000000").decode(),
        "password64": b64encode(PASSWORD.encode()).decode(),
        "wrong64": b64encode(b"wrong").decode(),
        "long": "A" * 13_000,
        "message": MESSAGE.encode("unicode_escape").decode(),
        "size": str(len(MESSAGE)),
    }


async def login(gate: Gate, key_id: str = "AKIAMAILER0000000000") -> Dialog:
    """A session on the plain listener, after AUTH."""
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.reply()
    await dialog.say("EHLO client.example")
    assert (await dialog.say(f"AUTH PLAIN {auth_plain(key_id)}")).startswith("235")
    return dialog


async def send(
    dialog: Dialog,
    message: str | bytes = MESSAGE,
    *,
    sender: str = "marketing@ses-example.com",
    to: tuple[str, ...] = ("jane@example.net",),
    parameters: str = "",
) -> str:
    """One transaction; the reply to the message, or the first refusal before it."""
    commands = [f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{one}>" for one in to)]
    for command in commands:
        reply = await dialog.say(command)
        if not reply.startswith("250"):
            return reply
    assert (await dialog.say("DATA")).startswith("354")
    octets = message if isinstance(message, bytes) else message.encode()
    await dialog.send(octets.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    return await dialog.reply()


def is_signed(content: bytes, *, domain: str = "ses-example.com") -> bool:
    """True if the owner's DKIM signature is on it and verifies."""
    record = dns_record(load_private_key(_dkim_pem())).encode()
    wanted = f"test._domainkey.{domain}."
    return verify(content, lambda name: record if name == wanted else None)
