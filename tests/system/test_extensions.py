"""The extensions that clients are offered: what is offered is kept, others are refused."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import trustme

from smtpgate.gate.gate import Gate
from tests.support.cases import load_cases
from tests.support.dialog import Dialog
from tests.support.inprocess import auth_plain, client_tls, login, open_gate, send
from tests.support.upstream_server import UpstreamServer, open_upstream

pytestmark = pytest.mark.slow

CASES: Final = load_cases("extensions/10-offered.toml")
CLIENTS: Final = ("early", "starttls", "login", "implicit", "open")
ALL: Final = (
    "STARTTLS",
    "SIZE 1000000",
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "REQUIRETLS",
    "CHUNKING",
    "BINARYMIME",
    "DELIVERBY",
    "FUTURERELEASE 3600",
    "ETRN",
)


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    return context


@asynccontextmanager
async def behind(kind: str, folder: Path) -> AsyncIterator[tuple[Gate, UpstreamServer]]:
    """A gate behind an upstream of that kind, which it has used once unless it is unknown."""
    ca_file = folder / "upstream-ca.pem"
    authority().cert_pem.write_to_path(str(ca_file))
    offers = ALL if kind == "all" else ()
    settings = {"listener": "max_errors = 1000", "upstream": ""}
    if kind == "all":
        settings["upstream"] = f'ca_file = "{ca_file}"'
    if kind == "alone":
        settings["sections"] = "[outbox]\nenabled = false"
    tls = "required" if kind == "all" else "off"
    async with (
        open_upstream(*offers, tls=server_tls() if kind == "all" else None) as upstream,
        open_gate(folder, port=upstream.port, tls=tls, **settings) as (gate, _),  # type: ignore[arg-type]
    ):
        if kind != "unknown":
            dialog = await login(gate)
            assert (await send(dialog)).startswith("250")
            await dialog.close()
        yield gate, upstream


async def connect(gate: Gate, client: str) -> tuple[Dialog, set[str]]:
    """A client, as far as its kind goes, and the extensions that it was offered last."""
    listener = {"implicit": "tls", "open": "plain"}.get(client, "starttls")
    context = client_tls() if client == "implicit" else None
    dialog = await Dialog.open(gate.listeners[listener].port, context)
    await dialog.reply()
    reply = await dialog.say("EHLO client.example")
    if client in ("starttls", "login"):
        assert (await dialog.say("STARTTLS")).startswith("220")
        await dialog.start_tls(client_tls())
        reply = await dialog.say("EHLO client.example")
    if client in ("login", "implicit", "open"):
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        reply = await dialog.say("EHLO client.example")
    return dialog, {line[4:].split(" ")[0] for line in reply.split("\n")[1:]}


@pytest.mark.parametrize("kind", ["all", "none", "unknown", "alone"])
async def test_what_is_offered_is_kept_and_what_is_not_is_refused(
    tmp_path: Path, kind: str
) -> None:
    async with behind(kind, tmp_path) as (gate, _):
        for client in CLIENTS:
            dialog, offered = await connect(gate, client)
            assert offered == {case["id"] for case in CASES if client in case[kind].split()}
            for case in CASES if client in ("login", "implicit", "open") else ():
                reply = await dialog.say(case["use"])
                wanted = case["kept" if case["id"] in offered else "refused"]
                assert reply.startswith(wanted), f"{client}, {case['id']}: {reply}"
                if case["use"].startswith("NOOP\r\n"):
                    await dialog.reply()
                await dialog.say("RSET")
            await dialog.close()


async def test_requiretls_goes_with_the_message_or_the_message_does_not_go(
    tmp_path: Path,
) -> None:
    async with behind("all", tmp_path) as (gate, upstream):
        dialog, _ = await connect(gate, "login")
        assert (await send(dialog, parameters=" REQUIRETLS")).startswith("250")
        commands = [one for visit in upstream.visits for one in visit.commands]
        assert [one for one in commands if one.startswith("MAIL")][-1].endswith(" REQUIRETLS")
        # The next connection is to a server that has lost the extension since.
        await dialog.say("MAIL FROM:<marketing@ses-example.com> REQUIRETLS")
        upstream.offers = ("STARTTLS",)
        upstream.answers["MAIL"] = "421 4.3.2 going down"
        await dialog.say("RCPT TO:<jane@example.net>")
        await dialog.say("DATA")
        await dialog.send(b"From: marketing@ses-example.com\r\n\r\nHello.\r\n.\r\n")
        assert (await dialog.reply())[0] in "45"
        upstream.answers["MAIL"] = "250 2.1.0 ok"
        relayed = len(upstream.messages)
        said = await send(dialog, parameters=" REQUIRETLS")
        assert said.startswith("550 5.7.30"), said
        assert len(upstream.messages) == relayed


async def test_a_body_of_8_bits_is_kept_where_that_was_offered(tmp_path: Path) -> None:
    async with behind("all", tmp_path) as (gate, upstream):
        dialog, _ = await connect(gate, "login")
        message = "From: marketing@ses-example.com\r\n\r\nGrüße.\r\n"
        assert (await send(dialog, message, parameters=" BODY=8BITMIME")).startswith("250")
        assert "Grüße.".encode() in upstream.messages[-1]
