"""The addresses that the envelope may have, and their form for the upstream."""

from pathlib import Path

from smtpgate.core.limits import Subject
from tests.support.inprocess import MESSAGE, Opened, login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.rows import rows
from tests.support.world import DELEGATE

LONG = "bounce+" + "0123456789abcdef" * 5 + "=example.net@ses-example.com"


@rows(
    "given, relayed",
    [
        # Relayed in quotes, as RFC 5321 wants them; the sink's aiosmtpd takes them off.
        ("us..er@example.net", "us..er@example.net"),
        ("user.@example.net", "user.@example.net"),
        ("bob@mail_1.example.net", "bob@mail_1.example.net"),
        ("bob@xn--i-7iq.example.net", "bob@xn--i-7iq.example.net"),
        ('"a>b"@example.net', '"a>b"@example.net'),
        (LONG, LONG),
        ("POSTMASTER", "Postmaster"),
    ],
)
async def test_a_recipient_is_the_next_servers_business(
    usual: Opened, given: str, relayed: str
) -> None:
    gate, sink = usual
    reply = await send(await login(gate), to=(given,))
    assert reply.startswith("250"), reply
    assert sink.messages[-1].recipients == (relayed,)


async def test_a_recipient_that_is_given_twice_is_relayed_and_charged_once(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 2") as (gate, sink):
        to = ("jane@example.net", "joe@example.net", "jane@EXAMPLE.net", '"joe"@example.net')
        assert (await send(await login(gate), to=to)).startswith("250")
        assert sink.messages[0].recipients == ("jane@example.net", "joe@example.net")
        assert await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now()) == 2


async def test_a_client_may_call_itself_anything_and_received_has_what_is_safe(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await dialog.say("EHLO bücher*%1'")).startswith("250-gate.example")
        assert (await send(dialog, sender=LONG)).startswith("250")
        assert b"Received: from b?xc3?xbccher??1? ([127.0.0.1])" in sink.messages[0].content
        assert sink.messages[0].mail_from == LONG
        assert MESSAGE.endswith("Hello Jane.\r\n")
