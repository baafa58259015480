"""A running gate uses what has changed in its configuration, or goes on with what it has."""

import asyncio
import gc
import json
import weakref
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.control import ReloadAnswer, ReloadRequest, ask
from smtpgate.control.frames import RequestFrame, framed
from smtpgate.demo.sink import Sink
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.errors import OpenError
from smtpgate.gate.gate import Gate
from smtpgate.gate.outbox import OwnPath
from smtpgate.smtp.listener import Listener
from tests.support.clock import move_loop
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, login, open_gate, send
from tests.support.upstream_server import open_upstream
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def change(folder: Path, old: str, new: str) -> None:
    """Change the configuration."""
    path = folder / "smtpgate.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def noted(folder: Path, event: str) -> list[dict[str, object]]:
    lines = (folder / "log").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line)).get("event") == event]


def sample(gate: Gate, series: str) -> float:
    """The value of a series in a scrape."""
    lines = gate.metrics.render().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(series))


async def recipients_taken(dialog: Dialog, count: int) -> list[str]:
    """The first codes of MAIL and so many RCPT."""
    replies = [await dialog.say("MAIL FROM:<marketing@ses-example.com>")]
    replies += [await dialog.say(f"RCPT TO:<r{one}@example.net>") for one in range(count)]
    await dialog.say("RSET")
    return [reply[:3] for reply in replies]


async def test_open_sessions_and_new_ones_have_a_changed_bound(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        before = await login(gate)
        assert await recipients_taken(before, 4) == ["250"] * 4 + ["452"]
        change(tmp_path, "max_recipients = 3", "max_recipients = 1")
        assert await gate.reload() == ReloadAnswer(("gate.max_recipients",))
        for dialog in (before, await login(gate)):
            assert await recipients_taken(dialog, 2) == ["250", "250", "452"]
            assert (await send(dialog)).startswith("250")
        assert sample(gate, 'smtpgate_sessions{listener="plain"}') == 2
    (line,) = noted(tmp_path, "configuration loaded")
    assert line["keys"] == ["gate.max_recipients"]


async def test_an_open_session_has_a_shorter_time_for_its_next_command(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="command_timeout_s = 300") as (gate, _):
        dialog = await login(gate)
        change(tmp_path, "command_timeout_s = 300", "command_timeout_s = 5")
        assert not (await gate.reload()).is_refused
        assert (await dialog.say("NOOP")).startswith("250")
        await move_loop(4)
        assert gate.client_sockets.open == 1
        await move_loop(1)
        assert (await dialog.reply()).startswith("421 4.4.2")


async def test_a_message_ends_at_the_upstream_of_its_beginning_and_the_next_one_at_the_newer(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        gate, older = await stack.enter_async_context(open_gate(tmp_path))
        newer = await stack.enter_async_context(Sink())
        dialog, idle = await login(gate), await login(gate)
        assert (await send(dialog)).startswith("250")
        assert (await dialog.say("MAIL FROM:<marketing@ses-example.com>")).startswith("250")
        assert (await dialog.say("RCPT TO:<jane@example.net>")).startswith("250")
        change(tmp_path, f"\nport = {older.port}\n", f"\nport = {newer.port}\n")
        assert await gate.reload() == ReloadAnswer(("upstream.sink.port",))
        assert (await send(idle)).startswith("250")
        assert (len(older.messages), len(newer.messages)) == (1, 1)
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(f"{MESSAGE}.\r\n".encode())
        assert (await dialog.reply()).startswith("250")
        assert (len(older.messages), len(newer.messages)) == (2, 1)
        assert (await send(dialog)).startswith("250")
        assert (len(older.messages), len(newer.messages)) == (2, 2)
        limit = 'smtpgate_upstream_connection_limit{upstream="sink"}'
        await until(lambda: sample(gate, limit) == 20)
        assert not gate._succession._leaving


async def test_a_configuration_with_errors_is_refused_and_nothing_changes(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        dialog = await login(gate)
        change(tmp_path, "max_recipients = 3", "max_recipient = 1\nmax_message_octets = 5")
        answer = await gate.reload()
        assert answer.is_refused
        assert answer.changed == ()
        file = tmp_path / "smtpgate.toml"
        assert answer.problems == (
            f"{file}: gate.max_message_octets: must be at least 1024, not 5",
            f"{file}: gate.max_recipient: is not a known key (did you mean `max_recipients'?)",
        )
        assert await recipients_taken(dialog, 4) == ["250"] * 4 + ["452"]
        assert sample(gate, "smtpgate_configuration_refused") == 1
    (line,) = noted(tmp_path, "configuration refused")
    assert line["problems"] == list(answer.problems)
    assert not noted(tmp_path, "certificate loaded")


async def test_a_configuration_that_cannot_be_prepared_changes_nothing(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        dialog = await login(gate)
        (tmp_path / "other.crt").write_text("nonsense")
        change(tmp_path, "max_recipients = 3", "max_recipients = 1")
        change(tmp_path, 'cert_file = "tls.crt"', 'cert_file = "other.crt"')
        answer = await gate.reload()
        assert answer.is_refused
        assert "cert_file holds no certificate in PEM" in answer.problems[0]
        assert await recipients_taken(dialog, 4) == ["250"] * 4 + ["452"]
        change(tmp_path, 'cert_file = "other.crt"', 'cert_file = "tls.crt"')
        assert await gate.reload() == ReloadAnswer(("gate.max_recipients",))
        assert await recipients_taken(dialog, 2) == ["250", "250", "452"]


async def test_what_needs_a_restart_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        change(tmp_path, "max_recipients = 3", 'max_recipients = 1\nregion = "eu-west-1"')
        wanted = ReloadAnswer(("gate.max_recipients",), ("gate.region",))
        assert await gate.reload() == wanted
        assert await gate.reload() == ReloadAnswer((), ("gate.region",))
        assert sample(gate, "smtpgate_configuration_restart_keys") == 1
        assert await recipients_taken(await login(gate), 2) == ["250", "250", "452"]
    assert [line["keys"] for line in noted(tmp_path, "restart needed")] == [["gate.region"]] * 2


async def test_a_session_that_stricter_settings_would_not_let_in_ends(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        idle, busy = await login(gate), await login(gate)
        assert (await busy.say("MAIL FROM:<marketing@ses-example.com>")).startswith("250")
        files = 'cert_file = "tls.crt"\nkey_file = "tls.key"'
        plain = 'tls = "none"\nallow_plaintext_auth = true'
        change(tmp_path, plain, f'tls = "starttls"\n{files}')
        assert set((await gate.reload()).changed) == {
            f"listener.plain.{key}"
            for key in ("tls", "allow_plaintext_auth", "cert_file", "key_file")
        }
        assert (await idle.reply()).startswith("421 4.3.2")
        assert (await busy.say("RCPT TO:<jane@example.net>")).startswith("250")
        assert (await busy.say("RSET")).startswith("250")
        assert (await busy.reply()).startswith("421 4.3.2")
        fresh = await Dialog.open(gate.listeners["plain"].port)
        await fresh.reply()
        assert "AUTH" not in await fresh.say("EHLO client.example")
        assert (await fresh.say("STARTTLS")).startswith("220")
        await fresh.start_tls(client_tls())


async def test_a_changed_default_limit_counts_at_once(tmp_path: Path) -> None:
    replace = ("max_24h_send = 1000\n", "")
    sections = "[limits]\nmax_24h_send = 2\nmax_send_rate_per_s = 1000\n"
    async with open_gate(tmp_path, replace=replace, sections=sections) as (gate, _):
        dialog = await login(gate)
        for _ in range(2):
            assert (await send(dialog)).startswith("250")
        assert (await send(dialog)).startswith("454")
        change(tmp_path, "max_24h_send = 2\n", "max_24h_send = 3\n")
        assert (await gate.reload()).changed == ("limits.max_24h_send",)
        assert (await send(dialog)).startswith("250")
        assert (await send(dialog)).startswith("454")


async def test_reloads_with_other_upstreams_close_those_that_nothing_uses(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        sources = len(gate.metrics._readings._sources)
        upstream = "[upstream.sink]"
        for number in range(4):
            change(tmp_path, upstream, f"{upstream}\nmax_messages = 1{number}")
            if number == 2:
                change(tmp_path, "max_recipients = 3", "max_recipients = 4")
            assert "upstream.sink.max_messages" in (await gate.reload()).changed
            change(tmp_path, f"\nmax_messages = 1{number}", "")
            assert (await send(dialog)).startswith("250")
        assert (await gate.reload()).changed == ("upstream.sink.max_messages",)
        await until(lambda: not gate._succession._leaving)
        assert len(sink.messages) == 5
        assert len(gate.metrics._readings._sources) == sources
        await until(lambda: sample(gate, "smtpgate_upstream_connections{") == 0)


async def test_reloads_with_changes_leave_nothing_behind(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 30") as (gate, sink):
        dialog = await login(gate)
        sources, upstream = len(gate.metrics._readings._sources), gate.upstream
        listeners = list[weakref.ref[Listener]]()
        for number in range(1, 11):
            change(tmp_path, "drain_s = 5", f"drain_s = 5\nmax_inflight_octets = 9{number:08}")
            assert (await gate.reload()).changed == ("gate.max_inflight_octets",)
            listeners.append(weakref.ref(gate.listeners["plain"]))
            change(tmp_path, f"\nmax_inflight_octets = 9{number:08}", "")
            assert (await send(dialog)).startswith("250")
        await until(lambda: not gate._succession._leaving)
        gc.collect()
        assert {one() for one in listeners} == {None, gate.listeners["plain"]}
        assert len(sink.messages) == 10
        assert gate.upstream is upstream, "nothing of it has changed"
        assert len(gate.metrics._readings._sources) == sources
        assert sample(gate, 'smtpgate_upstream_connections{state="idle"') == 1


async def test_a_client_in_its_tls_handshake_begins_with_the_newer_settings(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        older = gate.listeners["tls"]
        client = await Dialog.open(older.port)
        await until(lambda: gate.client_sockets.open == 1)
        change(tmp_path, "max_recipients = 3", "max_recipients = 1")
        assert (await gate.reload()).changed == ("gate.max_recipients",)
        await client.start_tls(client_tls())
        assert (await client.reply()).startswith("220")
        assert (await client.say("EHLO client.example")).startswith("250")
        assert (await client.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert await recipients_taken(client, 2) == ["250", "250", "452"]
        newer = gate.listeners["tls"]
        assert newer is not older
        assert (len(newer.places), gate.client_sockets.open) == (1, 1)
        assert (await client.say("QUIT")).startswith("221")
        await until(lambda: (len(newer.places), gate.client_sockets.open) == (0, 0))


async def test_sessions_of_a_replaced_listener_are_drained_with_the_gate(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 3") as (gate, _):
        idle, busy = await login(gate), await login(gate)
        assert (await busy.say("MAIL FROM:<marketing@ses-example.com>")).startswith("250")
        change(tmp_path, "max_recipients = 3", "max_recipients = 1")
        assert (await gate.reload()).changed == ("gate.max_recipients",)
        stopping = asyncio.create_task(gate.stop(drain_s=30))
        assert (await idle.reply()).startswith("421 4.3.2")
        change(tmp_path, "max_recipients = 1", "max_recipients = 2")
        assert await gate.reload() == ReloadAnswer(
            problems=("the gate is stopping",), is_refused=True
        )
        assert (await busy.say("RCPT TO:<jane@example.net>")).startswith("250")
        assert (await busy.say("RSET")).startswith("250")
        assert (await busy.reply()).startswith("421 4.3.2")
        await asyncio.wait_for(stopping, 10)


async def test_a_message_that_is_coming_in_is_taken_by_the_bounds_of_its_beginning(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_message_octets = 100000") as (gate, sink):
        dialog = await login(gate)
        for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(MESSAGE.encode() + b"text\r\n" * 1000)
        change(tmp_path, "max_message_octets = 100000", "max_message_octets = 2000")
        assert (await gate.reload()).changed == ("gate.max_message_octets",)
        await dialog.send(b"text\r\n" * 1000 + b".\r\n")
        assert (await dialog.reply()).startswith("250")
        assert len(sink.messages) == 1
        assert (await send(dialog, f"{MESSAGE}{'text' * 20}\r\n" * 40)).startswith("552")
        assert "250-SIZE 2000" in await dialog.say("EHLO client.example")


@pytest.mark.slow
async def test_the_problems_of_a_reload_are_its_answer(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        path = gate.config.control_path

        async def asked(*, is_check: bool = False) -> ReloadAnswer:
            request = ReloadRequest(is_check=is_check)
            answers = await asyncio.to_thread(
                lambda: list(ask(path, request, ReloadAnswer, timeout_s=60))
            )
            return answers[0]

        assert await asked() == ReloadAnswer()
        change(tmp_path, "drain_s = 5", "drain_s = 4")
        assert (await asked(is_check=True)).changed == ("gate.drain_s",)
        assert gate.config.gate.drain_s == 5
        assert (await asked()).changed == ("gate.drain_s",)
        (tmp_path / "tls.crt").write_text("nonsense")
        (tmp_path / "directory/accounts.toml").write_text("[accounts.12]\n")
        answer = await asked()
        assert not answer.is_refused
        assert [one.partition(": ")[0] for one in answer.problems[:2]] == [
            "listener.starttls",
            "listener.tls",
        ]
        assert "accounts.12" in answer.problems[2]
    assert not path.exists()


async def test_upstreams_that_a_parent_has_prepared_are_used_whatever_becomes_of_their_files(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        authorities = tmp_path / "authorities.pem"
        authorities.write_bytes((tmp_path / "tls.crt").read_bytes())
        (upstream,) = gate.config.upstreams
        other = upstream.model_copy(update={"tls": "required", "ca_file": authorities})
        newer = gate.config.model_copy(update={"upstreams": (other,)})
        host = gate.host
        path = OwnPath(gate.config, host.store, SystemClock(), host.sinks, host.tokens.of)
        before = path.upstream.newest
        path.prepare(newer)
        assert path.upstream.newest is before
        authorities.unlink()
        path.use(newer)
        assert path.upstream.newest is not before
        with pytest.raises(OpenError, match=r"upstream\.sink"):
            path.prepare(gate.config.model_copy(update={"upstreams": (other, other)}))
        path.prepare(newer)
        in_use = path.upstream.newest
        path.use(newer)
        assert path.upstream.newest is in_use, "nothing has changed"
        await path.close()


class SlowSwitch:
    """A gate that waits before it switches to another configuration."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.has_begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._gate, name)

    async def switch(self, config: Config, certificates: Certificates) -> Sequence[str]:
        self.has_begun.set()
        await self.may_go_on.wait()
        return await self._gate.switch(config, certificates)


@pytest.mark.slow
async def test_a_reload_goes_on_when_its_client_leaves(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        slow = SlowSwitch(gate)
        gate._reloader._processes = slow
        change(tmp_path, "drain_s = 5", "drain_s = 4")
        _, client = await asyncio.open_unix_connection(gate.config.control_path)
        client.write(framed(RequestFrame("reload")))
        await slow.has_begun.wait()
        client.close()
        await until(lambda: len(gate.host._control._serving) == 0)
        slow.may_go_on.set()
        await until(lambda: gate.service.config.gate.drain_s == 4)
        assert (await gate.reload()).changed == ()
        assert noted(tmp_path, "configuration loaded")


async def test_an_open_session_has_the_bounds_of_the_newer_upstream(tmp_path: Path) -> None:
    async with (
        open_upstream("SIZE 5000") as older,
        open_upstream("SIZE 1000") as newer,
        open_gate(tmp_path, port=older.port, upstream="probe_interval_s = 30") as (gate, _),
    ):
        await until(lambda: any("NOOP" in visit.verbs for visit in older.visits))
        dialog, mail = await login(gate), "MAIL FROM:<marketing@ses-example.com> SIZE=2000"
        assert (await dialog.say(mail)).startswith("250")
        await dialog.say("RSET")
        change(tmp_path, f"\nport = {older.port}\n", f"\nport = {newer.port}\n")
        assert await gate.reload() == ReloadAnswer(("upstream.sink.port",))
        await until(lambda: any("NOOP" in visit.verbs for visit in newer.visits))
        assert (await dialog.say(mail)).startswith("552")


async def test_messages_take_the_routes_of_a_changed_configuration(tmp_path: Path) -> None:
    bulk = '[upstream.bulk]\nhost = "127.0.0.1"\nport = {port}\ntls = "off"\n'
    routes = (
        '[[route]]\nupstreams = ["bulk"]\nlisteners = ["plain"]\n'
        '[[route]]\nupstreams = ["sink"]\n'
    )
    async with Sink() as other, open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        change(
            tmp_path, "[directory]\n", bulk.format(port=other.port) + routes + "[directory]\n"
        )
        answer = await gate.reload()
        assert not answer.problems
        assert (await send(dialog)).startswith("250")
        assert (len(sink.messages), len(other.messages)) == (1, 1)
        assert gate.readiness.checks()["upstream.bulk"] == (True, "up")
