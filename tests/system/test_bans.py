"""Clients that fail too often are turned away at connect, as their proxy names them."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smtpgate.cli import app
from smtpgate.core.limits.bans import ClientFailed
from smtpgate.gate.gate import Gate
from tests.support.clock import MovableClock
from tests.support.dialog import Dialog
from tests.support.inprocess import auth_plain, login, open_gate

BEHIND_PROXY = 'proxy_from = ["127.0.0.0/8"]\nmax_errors = 3'
BANS = "[bans]\nmax_failures = 4\nfirst_s = 60\ntrusted = ['198.51.100.0/24']"
BANNED = "421 4.7.0 Too many failed logins or errors from your address, try again later"
ATTACKER, NEIGHBOUR = "192.0.2.7", "192.0.2.8"


async def connect(gate: Gate, address: str) -> tuple[Dialog, str]:
    """A connection from that address, and the first reply."""
    dialog = await Dialog.open(gate.listeners["plain"].port)
    family, to = ("TCP6", "2001:db8::1") if ":" in address else ("TCP4", "192.0.2.1")
    await dialog.send(f"PROXY {family} {address} {to} 1 2\r\n".encode())
    return dialog, await dialog.reply()


async def guess(gate: Gate, address: str, times: int) -> None:
    """So many wrong passwords, each in its own session."""
    for _ in range(times):
        dialog, said = await connect(gate, address)
        assert said.startswith("220")
        await dialog.say("EHLO x")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain(password='no')}")).startswith("535")
        await dialog.say("QUIT")


async def entry(gate: Gate, address: str) -> str:
    """The first reply to that address."""
    dialog, said = await connect(gate, address)
    await dialog.close()
    return said


async def logged(gate: Gate, folder: Path, event: str) -> list[dict[str, object]]:
    await gate.log.flush()
    lines = map(json.loads, (folder / "log").read_text().splitlines())
    return [line for line in lines if line.get("event") == event]


async def test_an_address_with_too_many_failed_logins_is_turned_away_for_a_while(
    tmp_path: Path, clock: MovableClock
) -> None:
    gate_of = open_gate(tmp_path, clock=clock, listener=BEHIND_PROXY, sections=BANS)
    async with gate_of as (gate, _):
        await guess(gate, ATTACKER, 4)
        assert await entry(gate, ATTACKER) == BANNED
        assert (await entry(gate, NEIGHBOUR)).startswith("220")
        (line,) = await logged(gate, tmp_path, "client-banned")
        assert (line["client"], line["network"], line["number"]) == (ATTACKER, ATTACKER, 1)
        (line,) = await logged(gate, tmp_path, "budget-exhausted")
        assert (line["client"], line["budget"]) == (ATTACKER, "banned")
        seen = gate.metrics.render().decode()
        assert 'smtpgate_clients_banned_total{listener="plain"} 1.0' in seen
        clock.move(60)
        assert (await entry(gate, ATTACKER)).startswith("220")
        await guess(gate, ATTACKER, 4)
        clock.move(60)
        assert await entry(gate, ATTACKER) == BANNED, "twice as long"
        clock.move(60)
        assert (await entry(gate, ATTACKER)).startswith("220")


async def test_a_network_of_ipv6_is_one_client_and_trusted_ones_are_none(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=BANS) as (gate, _):
        await guess(gate, "2001:db8:1::1", 2)
        await guess(gate, "2001:db8:1::ffff", 2)
        assert await entry(gate, "2001:db8:1:0:5::1") == BANNED
        assert (await entry(gate, "2001:db8:2::1")).startswith("220")
        await guess(gate, "198.51.100.9", 5)
        await guess(gate, "127.0.0.9", 5)
        assert [ban.client for ban in gate.service.bans.in_force()] == ["2001:db8:1::/64"]


async def test_sessions_that_end_for_their_errors_count_and_those_of_senders_do_not(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=BANS) as (gate, _):
        dialog, _ = await connect(gate, NEIGHBOUR)
        await dialog.say("EHLO x")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        for _ in range(3):
            await dialog.say("XYZZY")
        assert (await dialog.reply()).startswith("421")
        assert (await entry(gate, NEIGHBOUR)).startswith("220")
        dialog, _ = await connect(gate, ATTACKER)
        for _ in range(3):
            await dialog.say("GET / HTTP/1.1")
        assert (await dialog.reply()).startswith("421")
        assert await entry(gate, ATTACKER) == BANNED


async def test_failures_at_other_workers_count_and_are_passed_on(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=BANS) as (gate, _):
        passed_on: list[ClientFailed] = []
        gate.service.bans._tell_peers = passed_on.append
        now_s = gate.clock.now().timestamp()
        for _ in range(3):
            gate.service.take(ClientFailed(ATTACKER, 1.0, now_s))
        await guess(gate, ATTACKER, 1)
        assert [(one.client, one.points) for one in passed_on] == [(ATTACKER, 1.0)]
        assert await entry(gate, ATTACKER) == BANNED


async def test_bans_survive_a_reload_unless_the_network_is_trusted_now(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=BANS) as (gate, _):
        await guess(gate, ATTACKER, 4)
        config = tmp_path / "smtpgate.toml"
        text = config.read_text().replace("max_failures = 4", "max_failures = 2")
        config.write_text(text)
        assert not (await gate.reload()).problems
        assert await entry(gate, ATTACKER) == BANNED
        await guess(gate, NEIGHBOUR, 2)
        assert await entry(gate, NEIGHBOUR) == BANNED
        config.write_text(text.replace("198.51.100.0/24", "192.0.2.0/29"))
        assert not (await gate.reload()).problems
        assert (await entry(gate, ATTACKER)).startswith("220")
        assert await entry(gate, NEIGHBOUR) == BANNED


async def test_without_a_ban_list_nobody_is_banned_but_by_hand(tmp_path: Path) -> None:
    sections = "[bans]\nenabled = false\nmax_failures = 1"
    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=sections) as (gate, _):
        await guess(gate, ATTACKER, 3)
        gate.service.bans.add(ATTACKER, gate.clock.now().timestamp() + 60)
        assert await entry(gate, ATTACKER) == BANNED


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
async def test_the_list_of_a_running_gate_is_shown_and_changed(
    tmp_path: Path, address: str
) -> None:
    async def says(*words: str) -> tuple[int, str]:
        config = ["--config", str(tmp_path / "smtpgate.toml")]
        done = await asyncio.to_thread(CliRunner().invoke, app, ["bans", *words, *config])
        return done.exit_code, done.output

    async with open_gate(tmp_path, listener=BEHIND_PROXY, sections=BANS) as (gate, _):
        client = "2001:db8::/64" if ":" in address else address
        assert await says("list") == (0, "nobody is banned\n")
        code, text = await says("add", address, "--until", "2h")
        assert (code, text.startswith(f"{address}: banned until ")) == (0, True)
        assert await entry(gate, address) == BANNED
        code, text = await says("list", "--json")
        (ban,) = json.loads(text)
        assert (code, ban["client"], ban["bans"]) == (0, client, 0)
        assert "by hand" in (await says("list"))[1]
        assert (await says("remove", address))[0] == 0
        assert (await entry(gate, address)).startswith("220")
        code, text = await says("remove", address)
        assert code == 1
        assert "is not banned" in text
        assert (await says("add", "example.com"))[0] == 2
    code, text = await says("list")
    assert code == 1
    assert "no gate answers" in text


async def test_loopback_is_never_banned(tmp_path: Path) -> None:
    async with open_gate(tmp_path, sections="[bans]\nmax_failures = 1") as (gate, _):
        for _ in range(3):
            dialog = await Dialog.open(gate.listeners["plain"].port)
            await dialog.reply()
            await dialog.say("EHLO x")
            await dialog.say(f"AUTH PLAIN {auth_plain(password='no')}")
        await (await login(gate)).close()
