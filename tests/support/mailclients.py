"""Mail clients that people really use, each behind the same few words."""

import asyncio
import json
import smtplib
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosmtplib
import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, need
from tests.support.gate import HOSTNAME, LOGIN, ROOT, Gate
from tests.support.npm import npm_folder

NODEMAILER: Final = "10.6.0"
_SCRIPT: Final = ROOT / "tests/integration/send.mjs"
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Job:
    """One message to send through a gate, and how to log in there."""

    gate: Gate
    authority: Authority
    folder: Path
    implicit_tls: bool
    mechanism: str
    sender: str
    recipient: str
    message: bytes
    needs_smtputf8: bool = False

    @property
    def port(self) -> int:
        """The port of the listener with that kind of TLS."""
        return self.gate.tls_port if self.implicit_tls else self.gate.port

    @property
    def context(self) -> ssl.SSLContext:
        """TLS settings of a client that trusts the test's authority only."""
        return self.authority.client_context()

    @property
    def options(self) -> list[str]:
        """The parameters of MAIL (RFC 6152 §2, RFC 6531 §3.4)."""
        return ["BODY=8BITMIME", *(["SMTPUTF8"] if self.needs_smtputf8 else [])]

    def message_file(self) -> Path:
        """The message in a file."""
        file = self.folder / "message.eml"
        file.write_bytes(self.message)
        return file


async def _smtplib(job: Job) -> None:
    def send(client: smtplib.SMTP) -> None:
        client.ehlo()
        client.user, client.password = LOGIN.username, LOGIN.password
        mechanisms = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}
        client.auth(job.mechanism, mechanisms[job.mechanism])
        client.sendmail(job.sender, [job.recipient], job.message, job.options)

    if job.implicit_tls:
        with smtplib.SMTP_SSL(
            LOOPBACK, job.port, timeout=_TIMEOUT_S, context=job.context
        ) as over_tls:
            send(over_tls)
    else:
        with smtplib.SMTP(LOOPBACK, job.port, timeout=_TIMEOUT_S) as client:
            client.starttls(context=job.context)
            send(client)


async def _aiosmtplib(job: Job) -> None:
    client = aiosmtplib.SMTP(
        hostname=LOOPBACK,
        port=job.port,
        use_tls=job.implicit_tls,
        start_tls=not job.implicit_tls,
        tls_context=job.context,
        timeout=_TIMEOUT_S,
    )
    async with client:
        protocol = client.protocol
        await client.ehlo()
        log_in = client.auth_plain if job.mechanism == "PLAIN" else client.auth_login
        await log_in(LOGIN.username, LOGIN.password)
        await client.sendmail(
            job.sender, [job.recipient], job.message, mail_options=job.options
        )
    # It does not wait for the end of TLS, and the test's loop must not be closed before.
    async with asyncio.timeout(_TIMEOUT_S):
        while protocol and protocol.transport:  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0)


def _run(command: list[str | Path], given: str = "") -> None:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{command[0]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")


async def _swaks(job: Job) -> None:
    file = job.message_file()
    file.write_bytes(job.message.removesuffix(b"\r\n"))  # it adds a line end of its own
    _run(
        [
            need("swaks", "swaks"),
            *("--server", LOOPBACK, "--port", str(job.port), "--timeout", str(_TIMEOUT_S)),
            *("--tls-on-connect" if job.implicit_tls else "--tls", "--tls-verify"),
            *("--tls-ca-path", job.authority.ca_file),
            *("--auth", job.mechanism),
            *("--auth-user", LOGIN.username, "--auth-password", LOGIN.password),
            *("--from", job.sender, "--to", job.recipient),
            *("--data", f"@{file}", "--suppress-data"),
        ]
    )


async def _nodemailer(job: Job) -> None:
    task = {
        "modules": str(npm_folder("node", {"nodemailer": NODEMAILER})),
        "host": LOOPBACK,
        "port": job.port,
        "implicitTls": job.implicit_tls,
        "mechanism": job.mechanism,
        "username": LOGIN.username,
        "password": LOGIN.password,
        "caFile": str(job.authority.ca_file),
        "tlsName": HOSTNAME,
        "sender": job.sender,
        "recipients": [job.recipient],
        "eightBit": True,
        "messageFile": str(job.message_file()),
    }
    _run([need("node", "nodejs"), _SCRIPT], json.dumps(task))


@dataclass(frozen=True, slots=True)
class MailClient:
    """A client, and whether it speaks SMTPUTF8."""

    send: Callable[[Job], Awaitable[None]]
    has_smtputf8: bool = True


CLIENTS: Final[Mapping[str, MailClient]] = {
    "smtplib": MailClient(_smtplib),
    "aiosmtplib": MailClient(_aiosmtplib),
    "swaks": MailClient(_swaks, has_smtputf8=False),
    "nodemailer": MailClient(_nodemailer),
}
