"""Clients that leave while their message waits in line, and the upstream's SIZE."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smtpgate.core.limits import Subject
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.upstream_server import HOLD, UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import DELEGATE


async def log_of(gate: Gate, folder: Path) -> Sequence[dict[str, object]]:
    await gate.log.flush()
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


async def in_tls(gate: Gate) -> Dialog:
    dialog = await Dialog.open(gate.listeners["tls"].port, client_tls())
    await dialog.reply()
    await dialog.say("EHLO client.example")
    await dialog.say(f"AUTH PLAIN {auth_plain()}")
    return dialog


async def hand_over(dialog: Dialog, after: bytes = b"") -> None:
    """Send a message to its final dot and what comes after; do not wait for the verdict."""
    await dialog.say("MAIL FROM:<marketing@ses-example.com>")
    await dialog.say("RCPT TO:<jane@example.net>")
    await dialog.say("DATA")
    await dialog.send(MESSAGE.encode() + b".\r\n" + after)


@asynccontextmanager
async def busy_gate(folder: Path) -> AsyncIterator[tuple[Gate, UpstreamServer, Dialog]]:
    """A gate whose only upstream connection is busy, and the client for whose message it is."""
    async with (
        open_upstream("PIPELINING") as upstream,
        open_gate(folder, port=upstream.port, upstream="max_connections = 1") as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        first = await login(gate)
        await hand_over(first)
        await upstream.until(lambda: bool(upstream.messages))
        yield gate, upstream, first


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
async def test_a_message_whose_client_hangs_up_while_it_waits_is_sent_at_the_retry_alone(
    tmp_path: Path, is_tls: bool
) -> None:
    async with busy_gate(tmp_path) as (gate, upstream, first):
        leaving = await in_tls(gate) if is_tls else await login(gate)
        await hand_over(leaving)
        await until(lambda: gate.upstream.pools["sink"].waiting == 1)
        leaving.writer.transport.abort() if is_tls else leaving.writer.close()
        await until(lambda: gate.upstream.pools["sink"].waiting == 0)
        upstream.release()
        assert (await first.reply()).startswith("250")
        assert (await send(await login(gate))).startswith("250")
        assert len(upstream.messages) == 2
        (entry,) = [
            line for line in await log_of(gate, tmp_path) if line.get("reason") == "client-gone"
        ]
        assert entry["outcome"] == "deferred"
        assert await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now()) == 2


async def test_a_client_that_said_all_it_had_to_say_still_has_its_replies(
    tmp_path: Path,
) -> None:
    async with busy_gate(tmp_path) as (gate, upstream, first):
        polite = await login(gate)
        await hand_over(polite, b"QUIT\r\n")
        polite.writer.write_eof()
        await until(lambda: gate.upstream.pools["sink"].waiting == 1)
        upstream.release()
        assert (await first.reply()).startswith("250")
        assert (await polite.reply()).startswith("250 2.0.0 Ok")
        assert (await polite.reply()).startswith("221")


async def test_a_client_that_left_together_with_its_final_dot_has_left(tmp_path: Path) -> None:
    async with busy_gate(tmp_path) as (gate, upstream, first):
        leaving = await login(gate)
        await hand_over(leaving)
        leaving.writer.write_eof()
        reply = await leaving.reply()
        assert reply.startswith("451 4.4.2 Connection was closed before the message could be")
        assert "(client-gone; 0100" in reply
        upstream.release()
        assert (await first.reply()).startswith("250")
        assert len(upstream.messages) == 1


async def test_what_is_sent_already_is_carried_to_its_verdict_also_if_clients_leave(
    tmp_path: Path,
) -> None:
    async with busy_gate(tmp_path) as (gate, upstream, first):
        first.writer.close()
        await asyncio.sleep(0)
        upstream.release()
        await gate.sessions.drain(5)
        entry = [line for line in await log_of(gate, tmp_path) if "outcome" in line][-1]
        assert entry["outcome"] == "accepted"


# -- SIZE --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "offered"),
    [
        ("SIZE 3000", 3000),
        ("SIZE 50000000", 41943040),
        *(
            pytest.param(theirs, 41943040, marks=pytest.mark.slow)
            for theirs in ("SIZE", "SIZE 0", "SIZE nonsense", "HELP")
        ),
    ],
)
async def test_the_smaller_size_of_the_two_is_offered_and_kept(
    tmp_path: Path, theirs: str, offered: int
) -> None:
    async with (
        open_upstream(theirs) as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        assert f"SIZE {offered}\n" in await dialog.say("EHLO client.example")
        command = "MAIL FROM:<marketing@ses-example.com> SIZE="
        assert (await dialog.say(f"{command}{offered + 1}")).startswith("552 5.3.4")
        assert (await dialog.say(f"{command}{offered}")).startswith("250")
        await dialog.say("RSET")
        if offered == 3000:
            assert (
                await send(dialog, MESSAGE + "x" * 900 + "\r\n" + "y" * 900 + "\r\n")
            ).startswith("250")
            large = MESSAGE + ("x" * 900 + "\r\n") * 4
            assert (await send(dialog, large)).startswith("552 5.3.4")
            assert len(upstream.messages) == 2


# -- the upstream's limit ----------------------------------------------------------------------


async def test_what_the_upstream_does_not_take_at_once_waits_and_the_operator_can_see_it(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream("PIPELINING") as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["CONNECT"] = lambda _: (
            "220 mx" if upstream.open_visits <= 2 else "421 4.7.0 too many connections"
        )
        upstream.answers["MESSAGE"] = HOLD
        dialogs = [await login(gate) for _ in range(8)]
        sending = [asyncio.create_task(send(dialog)) for dialog in dialogs]
        pool = gate.upstream.pools["sink"]
        await until(lambda: pool.waiting == 6 and pool.connection_limit == 2)
        metrics = gate.metrics.render().decode()
        assert 'smtpgate_upstream_connection_limit{upstream="sink"} 2.0' in metrics
        assert 'smtpgate_upstream_waiting{upstream="sink"} 6.0' in metrics
        upstream.release()
        assert [(await one)[:3] for one in sending] == ["250"] * 8
        (*_, line) = [
            line for line in await log_of(gate, tmp_path) if line["event"] == "upstream-limit"
        ]
        assert (line["upstream"], line["level"]) == ("sink", "warning")
        assert "421 4.7.0 too many connections" in str(line["problem"])
