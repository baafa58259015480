"""`smtpgate trace' of a real gate: what it shows, what it never shows, and its bounds."""

import asyncio
import json
import sys
import threading
from base64 import b64encode
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

from smtpgate.control import RefusedError, TraceRequest, ask
from smtpgate.core.transcript import TraceTarget, TranscriptPart
from smtpgate.tracing import MOST_TRACES
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, login, open_gate, send
from tests.support.traces import tracing
from tests.support.upstream_server import HANG_UP, open_upstream
from tests.support.waiting import until
from tests.support.world import DELEGATE, OWNER, PASSWORD

pytestmark = pytest.mark.slow

CLIENT: Final = "127.0.0.1"


async def connected(port: int) -> Dialog:
    dialog = await Dialog.open(port)
    await dialog.reply()
    await dialog.say("EHLO client.example")
    return dialog


async def test_a_session_is_shown_from_its_login_to_the_answer_of_the_upstream(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink), tracing(gate, account=DELEGATE) as seen:
        other = await login(gate, "AKIAOWNERROOT0000000")
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        await dialog.say("QUIT")
        await seen.shows("connection closed")
        await other.close()
    assert len(sink.messages) == 1
    client = [one for one in seen.texts if one.startswith("client")]
    upstream = [one for one in seen.texts if one.startswith("sink")]
    assert client[0].startswith("client -- connected from 127.0.0.1 port ")
    assert client[0].endswith(" to listener plain")
    assert client[1:3] == ["client S: 220 gate.example ESMTP", "client C: EHLO client.example"]
    assert f"client C: AUTH PLAIN *** ({len(auth_plain())} octets of a response)" in client
    at = next(n for n, one in enumerate(client) if one.startswith("client S: 235 2.7.0 "))
    size = len(MESSAGE)
    assert [one.split(" Ok")[0] for one in client[at - 1 :]] == [
        f"client -- logged in: account {DELEGATE}, access key AKIAMAILER0000000000",
        client[at],
        "client C: MAIL FROM:<marketing@ses-example.com>",
        "client S: 250 2.1.0",
        "client C: RCPT TO:<jane@example.net>",
        "client S: 250 2.1.5",
        "client C: DATA",
        "client S: 354 End data with <CR><LF>.<CR><LF>",
        f"client C: ({size} octets of a message)",
        "client S: 250 2.0.0",
        "client C: QUIT",
        client[-2],
        "client -- connection closed",
    ]
    assert upstream[0].startswith("sink -- connected to 127.0.0.1 port ")
    assert "sink C: EHLO gate.example" in upstream
    assert "sink C: MAIL FROM:<marketing@ses-example.com>" in "\n".join(upstream)
    assert "sink C: DATA" in upstream
    assert upstream[-1].startswith("sink S: 250 ")
    assert any(" octets of a message)" in one for one in upstream)
    (session,) = {line.session for line in seen.lines}
    assert len(session) == 12
    assert "AKIAOWNERROOT0000000" not in str(seen.texts)


async def test_no_part_of_a_message_or_of_credentials_is_shown(tmp_path: Path) -> None:
    user, password = (b64encode(one.encode()).decode() for one in ("AKIAMAILER0", PASSWORD))
    async with open_gate(tmp_path) as (gate, _), tracing(gate, network=CLIENT) as seen:
        dialog = await connected(gate.listeners["plain"].port)
        await dialog.say("AUTH LOGIN")
        await dialog.say(user)
        assert (await dialog.say(password)).startswith("535")
        await dialog.say(f"AUTH {auth_plain()}")
        await dialog.say(f"AUTHPLAIN {auth_plain()}")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        await dialog.say(f"NOOP {PASSWORD}")
        body = f"{MESSAGE}QUIT\r\nBDAT 5\r\nMAIL FROM:<secret@example.net>\r\n"
        assert (await send(dialog, body)).startswith("250")
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("RCPT TO:<jane@example.net>")
        await dialog.send(f"BDAT {len(body)} LAST\r\n{body}".encode())
        await dialog.reply()
        await seen.shows("octets of a chunk")
        await dialog.say("QUIT")
        await seen.shows("connection closed")
    shown = json.dumps([line.text for line in seen.lines])
    for secret in (
        PASSWORD,
        password,
        user,
        auth_plain(),
        "Spring",
        "Hello",
        "secret@",
        "Subject",
    ):
        assert secret not in shown
    assert "client C: AUTH ***" in seen.texts
    assert "client -- login refused: invalid-credentials" in seen.texts
    assert f"client C: NOOP *** ({len(PASSWORD)} octets of an argument)" in seen.texts
    assert f"client C: BDAT {len(body)} LAST" in seen.texts
    assert seen.texts.count("client C: DATA") == 1


async def test_a_body_behind_a_refused_data_is_no_text_of_commands(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _), tracing(gate, account=DELEGATE) as seen:
        dialog = await login(gate)
        await dialog.say("DATA")
        for line in (
            "Dear Jane,",
            "Helo secret",
            "MAIL FROM:<secret@example.net>",
            "Data secret",
        ):
            await dialog.say(line)
        await dialog.say("RSET")
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("QUIT")
        await seen.shows("connection closed")
    said = [line.text for line in seen.lines if line.kind == "command"]
    at = said.index("DATA")
    assert said[at + 1 :] == [
        "(10 octets of no command)",
        "HELO *** (6 octets of an argument)",
        "MAIL *** (25 octets of an argument)",
        "DATA *** (6 octets of an argument)",
        "RSET",
        "MAIL FROM:<marketing@ses-example.com>",
        "QUIT",
    ]
    assert "secret" not in "".join(line.text for line in seen.lines if line.kind == "command")


async def test_an_upstream_that_answers_421_is_shown_with_what_the_gate_makes_of_it(
    tmp_path: Path,
) -> None:
    async with open_upstream() as upstream:
        gone = "421 4.3.2 mx.example.net is going away"
        upstream.answers["MAIL"] = gone
        async with (
            open_gate(tmp_path, port=upstream.port) as (gate, _),
            tracing(gate, account=DELEGATE) as seen,
        ):
            dialog = await login(gate)
            assert (await send(dialog)).startswith("451")
            upstream.answers["CONNECT"] = "421 4.7.0 too many connections"
            assert (await send(dialog)).startswith("451")
            upstream.answers["CONNECT"] = HANG_UP
            assert (await send(dialog)).startswith("451")
            await until(lambda: "closed the connection" in str(seen.texts), 10)
    assert f"sink S: {gone}" in seen.texts
    assert f"sink -- upstream sink: {gone}" in seen.texts
    assert "sink S: 421 4.7.0 too many connections" in seen.texts
    assert "sink -- upstream sink: it closed the connection" in seen.texts


async def test_our_login_at_an_upstream_that_repeats_it_is_masked(tmp_path: Path) -> None:
    secret = "hunter2hunter2"
    response = b64encode(f"\0gate\0{secret}".encode()).decode()
    file = tmp_path / "password"
    file.write_text(secret)
    file.chmod(0o600)
    async with open_upstream("AUTH PLAIN LOGIN") as upstream:
        upstream.answers["AUTH"] = lambda command: f"535 5.7.8 no: {command} {secret}"
        async with (
            open_gate(
                tmp_path,
                port=upstream.port,
                upstream=f'username = "gate"\npassword_file = "{file}"\nmax_failures = 0',
            ) as (gate, _),
            tracing(gate, account=DELEGATE) as seen,
        ):
            dialog = await login(gate)
            assert (await send(dialog)).startswith("451")
            await seen.shows("refused our login")
    assert "sink C: AUTH PLAIN *** (28 octets of a response)" in seen.texts
    assert "sink S: 535 5.7.8 no: AUTH PLAIN *** ***" in seen.texts
    shown = str(seen.texts)
    assert secret not in shown
    assert response not in shown
    assert any(response in one for one in upstream.visits[0].commands)


async def test_a_session_by_its_id_ends_its_trace(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        (session,) = gate.listeners["plain"].sessions
        async with tracing(gate, session=session.session_id) as seen:
            assert (await send(dialog)).startswith("250")
            await dialog.say("QUIT")
            async with asyncio.timeout(10):
                await seen.ended
        assert seen.texts[0].startswith("client C: MAIL")
        assert seen.texts[-1] == "client -- connection closed"
        assert any(one.startswith("sink C: EHLO") for one in seen.texts)
        assert gate.service.tracer.traces == []
        async with tracing(gate, session="0123456789ab") as unknown:
            with pytest.raises(RefusedError, match="no open session has the id 0123456789ab"):
                await unknown.ended


async def test_a_client_is_shown_that_never_becomes_a_session(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _), tracing(gate, network="127.0.0.0/8") as seen:
        dialog = await Dialog.open(gate.listeners["tls"].port)
        await dialog.send(b"EHLO client.example\r\n")
        assert await dialog.is_closed()
        await seen.shows("TLS failed: ")
    assert "client -- connection from 127.0.0.1 to listener tls: TLS failed: " in seen.texts[-1]


async def test_what_follows_starttls_is_shown_too(tmp_path: Path) -> None:
    async with (
        open_gate(tmp_path) as (gate, _),
        tracing(gate, key="AKIAMAILER0000000000") as seen,
    ):
        dialog = await connected(gate.listeners["starttls"].port)
        await dialog.say("STARTTLS")
        await dialog.start_tls(client_tls())
        await dialog.say("EHLO second.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        await seen.shows("235 2.7.0")
    texts = seen.texts
    assert texts.index("client C: STARTTLS") < texts.index("client -- TLS begins: TLSv1.3")
    assert texts.index("client -- TLS begins: TLSv1.3") < texts.index(
        "client C: EHLO second.example"
    )


async def test_traces_are_few_end_in_time_and_leave_nothing_behind(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        tracer = gate.service.tracer
        many = [TraceTarget(account=OWNER)] * MOST_TRACES
        running = [tracer.begin(target) for target in many]
        stranger = await connected(gate.listeners["plain"].port)
        for _ in range(100):
            await stranger.say("VRFY x")
        assert 0 < tracer.kept <= 40
        async with tracing(gate, account=OWNER) as seen:
            with pytest.raises(RefusedError, match="8 traces run already"):
                await _first_problem(seen.ended, seen.texts)
        for one in running:
            tracer.end(one)
        assert tracer.kept == 0
        async with tracing(gate, seconds=0.1, account=OWNER) as timed:
            async with asyncio.timeout(10):
                await timed.ended
        assert tracer.traces == []


async def _first_problem(ended: asyncio.Task[None], texts: list[str]) -> None:
    """The refusal of the only process is a line of the trace."""
    await ended
    raise RefusedError(texts[0])


async def test_who_traces_what_is_in_the_log(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        parts: list[TranscriptPart] = []
        request = TraceRequest(TraceTarget(account=DELEGATE), 0.2)

        def read() -> None:
            path = gate.host.config.control_path
            parts.extend(ask(path, request, TranscriptPart, timeout_s=20))

        await asyncio.to_thread(read)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (begun,) = [line for line in lines if line["event"] == "trace begun"]
    (ended,) = [line for line in lines if line["event"] == "trace ended"]
    assert begun["target"] == ended["target"] == f"account {DELEGATE}"
    assert {"uid", "pid"} <= begun.keys()
    assert (ended["lines"], ended["dropped"]) == (0, 0)


async def test_a_reader_that_is_stuck_costs_bounded_memory_and_learns_what_it_missed(
    tmp_path: Path,
) -> None:
    commands = 30_000
    async with open_gate(tmp_path, listener="max_junk_commands = 100000") as (gate, _):
        dialog = await login(gate)
        request = TraceRequest(TraceTarget(account=DELEGATE))
        path, may_read, parts = gate.host.config.control_path, threading.Event(), []

        def read() -> None:
            for part in ask(path, request, TranscriptPart, timeout_s=20):
                assert may_read.wait(20)
                parts.append(part)
                if any("221" in line.text for line in part.lines):
                    return

        reading = asyncio.create_task(asyncio.to_thread(read))
        tracer = gate.service.tracer
        await until(lambda: tracer.traces)
        group = b"NOOP\r\n" * 1000
        for _ in range(commands // 1000):
            await dialog.send(group)
            for _ in range(1000):
                await dialog.reply()
            waiting = [len(one._waiting) for one in tracer.traces]
            assert max(waiting, default=0) <= 2000
        may_read.set()
        await until(lambda: sum(len(one.lines) + one.dropped for one in parts) >= 2 * commands)
        await dialog.say("QUIT")
        await asyncio.wait_for(reading, 20)
    dropped = sum(part.dropped for part in parts)
    assert dropped > 0
    shown = [line.text for part in parts for line in part.lines]
    noops = sum(text in ("NOOP", "250 2.0.0 Ok") for text in shown)
    assert noops + dropped == 2 * commands


async def test_without_a_trace_no_code_of_it_runs(tmp_path: Path) -> None:
    called: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.endswith(("/tracing.py", "/traced.py", "transcript.py")):
            called.append(frame.f_code.co_qualname)

    async with open_gate(tmp_path) as (gate, _):
        sys.setprofile(note)
        try:
            dialog = await login(gate)
            assert (await send(dialog)).startswith("250")
            assert called == []
            async with tracing(gate, account=DELEGATE) as seen:
                assert (await send(dialog)).startswith("250")
                await seen.shows("250 2.0.0")
            assert "SessionTranscript.add" in called
            called.clear()
            _ = await send(dialog)  # it forgets that it was traced
            called.clear()
            assert (await send(dialog)).startswith("250")
            assert called == []
        finally:
            sys.setprofile(None)
