"""The gate and the sink of the demonstration, on loopback, in a temporary folder."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from smtpgate.admin.quotas import LimitSettings, set_limits
from smtpgate.admin.refs import OwnerRef
from smtpgate.admin.session import operator_session
from smtpgate.config import load_config
from smtpgate.core.policy.lint_regex import corrected
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.demo.api_client import ApiAnswer, call
from smtpgate.demo.client import Sent, send
from smtpgate.demo.sink import Sink
from smtpgate.gate.gate import Gate
from smtpgate.gate.initialize import initialize
from smtpgate.gate.serve import open_gate

IDENTITY: Final = "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"
_FILES: Final = Path(str(files("smtpgate.demo"))) / "world"
ANNOUNCED: Final = (_FILES / "directory/policies/announced.json").read_text()

_MESSAGE: Final = """\
X-SES-Source-ARN: {arn}
X-SES-From-ARN: {arn}
X-SES-Return-Path-ARN: {arn}
From: Marketing <{sender}>
To: Jane <jane@example.net>
Subject: Spring

Hello Jane.
"""


class World:
    """A running gate with its sink."""

    def __init__(self, folder: Path, gate: Gate, sink: Sink) -> None:
        self.folder = folder
        self.gate = gate
        self.sink = sink

    async def send(self, user: str, sender: str) -> Sent:
        """Send a message from that address with the three ARN fields as that user."""
        secret = Secret((self.folder / f"private/{user}.secret").read_text().strip())
        return await asyncio.to_thread(
            send,
            self.gate.listeners["submission"].port,
            ca_file=self.folder / "private/tls.crt",
            login=(_key_id(user), smtp_password(secret, "us-east-1").value),
            sender=sender,
            message=_MESSAGE.format(arn=IDENTITY, sender=sender),
        )

    async def call(self, user: str, parameters: Mapping[str, str]) -> ApiAnswer:
        """Call the API as that user."""
        secret = Secret((self.folder / f"private/{user}.secret").read_text().strip())
        return await asyncio.to_thread(
            call,
            self.gate.service.apis["ses"].port,
            parameters,
            ca_file=self.folder / "private/tls.crt",
            access_key_id=_key_id(user),
            secret=secret,
            now=self.gate.clock.now(),
        )

    async def raise_quota(self, recipients: int) -> None:
        """Raise the delegate's quota, as an operator does."""
        session = operator_session(
            self.gate.config, self.gate.store, self.gate.clock, name="demo", origin="demo"
        )
        settings: LimitSettings = {"max_24h_send": recipients}
        await set_limits(session, OwnerRef("999999999999", None), settings)
        await self.gate.service.catch_up()

    async def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics``."""
        port = self.gate.http.port if self.gate.http else 0
        text = await asyncio.to_thread(_get, f"http://127.0.0.1:{port}/metrics")
        samples = (
            line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#"
        )
        return {name: float(value) for name, _, value in samples}


def _key_id(user: str) -> str:
    return f"AKIADEMO{user.upper()}".ljust(20, "0")


def _get(address: str) -> str:
    with urlopen(address, timeout=10) as answer:  # noqa: S310 - our own loopback port
        text: str = answer.read().decode()
        return text


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """Prepare the folder and start everything; stop it at the end, in every case."""
    shutil.copytree(_FILES, folder, dirs_exist_ok=True)
    config = folder / "smtpgate.toml"
    async with Sink() as sink:
        config.write_text(config.read_text().replace("port = 25 ", f"port = {sink.port} "))
        (folder / "directory/policies/corrected.json").write_text(corrected(ANNOUNCED))
        await asyncio.to_thread(initialize, folder)
        async with open_gate(load_config(config)) as gate:
            yield World(folder, gate, sink)
