"""SIGTERM: nobody is admitted, complete messages get their time, stores close after that."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from smtpgate.gate.gate import Gate
from smtpgate.smtp.session import SmtpSession
from tests.support.clock import move_loop, settle
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, login, open_gate, send
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.waiting import until

TRUSTED = 'proxy_from = ["127.0.0.0/8"]'


async def connect(gate: Gate, listener: str) -> Dialog:
    return await Dialog.open(gate.listeners[listener].port)


async def begin(dialog: Dialog) -> None:
    for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<j@x.example>", "DATA"):
        await dialog.say(command)


async def test_a_client_in_its_tls_handshake_is_not_admitted(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await connect(gate, "tls")
        await until(lambda: bool(gate.client_sockets.open))
        await asyncio.wait_for(gate.stop(drain_s=30), 5)
        with contextlib.suppress(ConnectionError):
            assert await dialog.is_closed()
        assert not gate.client_sockets.open


async def test_a_client_that_has_just_shaken_hands_gets_421_and_no_greeting(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        begun = gate.listeners["tls"].enter
        stopping: list[asyncio.Task[None]] = []

        def enter_and_stop(session: object) -> None:
            stopping.append(asyncio.create_task(gate.stop(drain_s=30)))
            begun(session)  # type: ignore[arg-type]

        gate.listeners["tls"].enter = enter_and_stop  # type: ignore[method-assign]
        port = gate.listeners["tls"].port
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            dialog = await Dialog.open(port, client_tls())
            said = await dialog.line()
            assert said in ("", "421 4.3.2 gate.example Service shutting down, try again")
        await asyncio.wait_for(stopping[0], 10)


async def test_a_client_that_still_says_its_proxy_header_is_not_admitted(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=TRUSTED) as (gate, _):
        dialog = await connect(gate, "plain")
        await until(lambda: bool(gate.client_sockets.open))
        await asyncio.wait_for(gate.stop(drain_s=30), 5)
        with contextlib.suppress(ConnectionError):
            await dialog.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 587\r\n")
            assert await dialog.is_closed()


async def test_a_client_that_pipelines_gets_421_before_its_next_transaction(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await begin(dialog)
        again = "MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<j@x.example>\r\nDATA\r\n"
        await dialog.send(f"{MESSAGE}.\r\n{again}{MESSAGE}.\r\n".encode())
        await upstream.until(lambda: bool(upstream.messages))
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        await until(lambda: gate.is_draining)
        upstream.release()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok")
        assert (await dialog.reply()).startswith("421 4.3.2")
        await stopping
        assert len(upstream.messages) == 1


async def test_a_complete_message_gets_the_upstream_s_time_and_the_stores_wait(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        complete, partial = await login(gate), await login(gate)
        await begin(partial)
        await partial.send(MESSAGE.encode())
        await begin(complete)
        await complete.send(MESSAGE.encode() + b".\r\n")
        await upstream.until(lambda: bool(upstream.messages))
        stopping = asyncio.create_task(gate.stop(drain_s=0))
        assert (await partial.reply()).startswith("421 4.3.2"), "its time is over"
        assert await partial.is_closed()
        await partial.close()
        assert not stopping.done()
        upstream.release()
        assert (await complete.reply()).startswith("250 2.0.0 Ok")
        assert (await complete.reply()).startswith("421 4.3.2")
        await stopping
        text = (tmp_path / "log").read_text()
        assert '"outcome":"accepted"' in text
        assert '"transactions_cut_off":1' in text
        assert "unexpected-error" not in text


@pytest.mark.parametrize("listener", ["plain", "starttls"])
async def test_a_session_that_begins_while_draining_is_waited_for(
    tmp_path: Path, listener: str
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await connect(gate, listener)
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        with contextlib.suppress(ConnectionError):
            assert (await dialog.reply())[:4] in ("", "220 ", "421 ")
        await asyncio.wait_for(stopping, 10)
        assert not gate.client_sockets.open


async def test_a_session_that_begins_as_the_listener_is_closed_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        listener, begun = gate.listeners["plain"], SmtpSession.connection_made

        def begin_and_close(session: SmtpSession, transport: asyncio.BaseTransport) -> None:
            begun(session, transport)
            listener.close()

        monkeypatch.setattr(SmtpSession, "connection_made", begin_and_close)
        dialog = await connect(gate, "plain")
        with contextlib.suppress(ConnectionError):
            assert (await dialog.reply())[:4] in ("", "421 ")
        await asyncio.wait_for(gate.stop(drain_s=30), 5)
        text = (tmp_path / "log").read_text()
        assert '"transactions_cut_off":0' in text
        assert "unexpected-error" not in text


SCENES: Final[list[Callable[[Path], Coroutine[Any, Any, None]]]] = [
    test_a_client_in_its_tls_handshake_is_not_admitted,
    test_a_client_that_has_just_shaken_hands_gets_421_and_no_greeting,
    test_a_client_that_still_says_its_proxy_header_is_not_admitted,
    test_a_client_that_pipelines_gets_421_before_its_next_transaction,
    test_a_complete_message_gets_the_upstream_s_time_and_the_stores_wait,
]


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_gate_drains_on_uvloop(
    scene: Callable[[Path], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene(tmp_path))


@pytest.mark.slow
def test_a_session_that_begins_as_the_listener_is_closed_ends_at_once_on_uvloop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            test_a_session_that_begins_as_the_listener_is_closed_ends_at_once(
                tmp_path, monkeypatch
            )
        )


# -- with sockets that the next gate has too ---------------------------------------------------


@contextlib.asynccontextmanager
async def gate_with_sockets(folder: Path) -> AsyncIterator[tuple[Gate, socket.socket]]:
    """A gate whose plain listener was passed to it, and the socket that remains."""
    with socket.create_server(("127.0.0.1", 0)) as kept:
        async with open_gate(folder, inherited={"listener.plain": kept.dup()}) as (gate, _):
            yield gate, kept


async def test_a_client_that_has_just_connected_may_send_one_message(tmp_path: Path) -> None:
    async with gate_with_sockets(tmp_path) as (gate, _):
        idle, fresh = await login(gate), await connect(gate, "plain")
        assert (await send(idle)).startswith("250")
        assert (await fresh.reply()).startswith("220")
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        assert (await idle.reply()).startswith("421 4.3.2")
        assert (await fresh.say("EHLO client.example")).startswith("250")
        assert (await fresh.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(fresh)).startswith("250")
        assert (await fresh.say("MAIL FROM:<marketing@ses-example.com>")).startswith("421")
        await asyncio.wait_for(stopping, 10)


async def test_a_client_that_has_sent_its_message_says_quit_and_gets_221(
    tmp_path: Path,
) -> None:
    async with gate_with_sockets(tmp_path) as (gate, _):
        fresh = await login(gate)
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        await settle()
        assert (await send(fresh)).startswith("250")
        assert (await fresh.say("QUIT")).startswith("221")
        await asyncio.wait_for(stopping, 10)


async def test_a_client_that_sends_nothing_is_not_waited_for_long(tmp_path: Path) -> None:
    async with gate_with_sockets(tmp_path) as (gate, _):
        fresh = await login(gate)
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        await settle()
        await move_loop(5)
        assert (await fresh.reply()).startswith("421 4.3.2")
        await asyncio.wait_for(stopping, 10)


async def test_connections_after_the_stop_wait_for_the_next_gate(tmp_path: Path) -> None:
    async with gate_with_sockets(tmp_path) as (gate, kept):
        await gate.stop(drain_s=0)
        waiting = await Dialog.open(kept.getsockname()[1])
        kept.settimeout(5)
        connection, _ = await asyncio.to_thread(kept.accept)
        connection.close()
        assert await waiting.is_closed()
