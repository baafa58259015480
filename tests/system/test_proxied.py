"""Clients behind a proxy are known by the address that the proxy tells (PROXY protocol)."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.dialog import Dialog
from tests.support.inprocess import Opened, auth_plain, client_tls, login, open_gate, send
from tests.support.rows import rows

pytestmark = pytest.mark.slow

KEY = 'id = "AKIAMAILER0000000000"'
ONE_NETWORK = f'{KEY}\nnetworks = ["192.0.2.0/24"]'
TRUSTED = 'proxy_from = ["127.0.0.0/8"]'
V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 587\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(
    "!BBH4s4sHH",
    0x21,
    0x11,
    12,
    socket.inet_aton("192.0.2.7"),
    socket.inet_aton("127.0.0.1"),
    4711,
    587,
)
V6 = b"PROXY TCP6 2001:db8::7 ::1 4711 587\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Opened]:
    """A gate that trusts proxies of this machine."""
    async with open_gate(tmp_path, listener=TRUSTED) as opened:
        yield opened


@pytest.fixture
async def with_networks(tmp_path: Path) -> AsyncIterator[Opened]:
    """The same, with a key for one network."""
    replace = (KEY, ONE_NETWORK)
    async with open_gate(tmp_path, listener=TRUSTED, replace=replace) as opened:
        yield opened


async def connect(port: int, header: bytes) -> Dialog:
    dialog = await Dialog.open(port)
    await dialog.send(header)
    await dialog.reply()
    return dialog


@rows(
    "header, address",
    [
        (V1, b"([192.0.2.7])"),
        (V2, b"([192.0.2.7])"),
        (V6, b"([IPv6:2001:db8::7])"),
        (LOCAL, b"([127.0.0.1])"),
        (b"PROXY UNKNOWN\r\n", b"([127.0.0.1])"),
    ],
)
async def test_the_client_is_who_the_proxy_says(
    behind: Opened, header: bytes, address: bytes
) -> None:
    gate, sink = behind
    dialog = await connect(gate.listeners["plain"].port, header)
    await dialog.say("EHLO client.example")
    await dialog.say(f"AUTH PLAIN {auth_plain()}")
    assert (await send(dialog)).startswith("250")
    assert address in sink.messages[-1].content.split(b"\r\n\r\n")[0]


async def test_the_log_has_the_port_of_the_client_its_proxy_and_how_it_logged_in(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=TRUSTED) as (gate, _):
        dialog = await connect(gate.listeners["plain"].port, V1)
        await dialog.say("EHLO client.example")
        await dialog.say("FOO")
        await dialog.say(f"AUTH PLAIN {auth_plain()}")
        await dialog.say("FOO")
        await gate.log.flush()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    before, after = [line for line in lines if line["event"] == "command-refused"]
    wanted = {"client": "192.0.2.7", "port": 4711, "proxy": "127.0.0.1"}
    assert wanted.items() <= before.items()
    assert "mechanism" not in before
    login = {"mechanism": "PLAIN", "access_key": "AKIAMAILER0000000000"}
    assert {**wanted, **login}.items() <= after.items()


@rows("cut", [1, 5, 12, len(V1) - 1])
async def test_a_header_may_come_in_pieces(behind: Opened, cut: int) -> None:
    gate, _ = behind
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.send(V1[:cut])
    await asyncio.sleep(0)
    await dialog.send(V1[cut:])
    assert (await dialog.reply()).startswith("220")


async def test_what_follows_the_header_is_left_for_tls(tmp_path: Path) -> None:
    config = "[listener.proxied]\naddress = '127.0.0.1'\nport = 0\ntls = 'implicit'\n"
    config += f"cert_file = 'tls.crt'\nkey_file = 'tls.key'\n{TRUSTED}\n"
    async with open_gate(tmp_path, sections=config) as (gate, sink):
        loop, port = asyncio.get_running_loop(), gate.listeners["proxied"].port
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, V1)
            reader, writer = await asyncio.open_connection(
                sock=raw.dup(), ssl=client_tls(), server_hostname="gate.example"
            )
        dialog = Dialog(reader, writer)
        assert (await dialog.reply()).startswith("220")
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(dialog)).startswith("250")
        assert b"([192.0.2.7])" in sink.messages[0].content
        await dialog.say("QUIT")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@rows(
    "header",
    [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 999.0.2.7 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 5000 + b"\r\n",
        V2[:13] + b"\xff" * 40,
    ],
)
async def test_a_connection_without_a_proper_header_is_closed(
    behind: Opened, header: bytes
) -> None:
    gate, _ = behind
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.send(header)
    dialog.writer.write_eof()
    with contextlib.suppress(ConnectionError):
        assert await dialog.is_closed()


async def test_who_is_no_proxy_speaks_for_itself(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener='proxy_from = ["192.0.2.0/24"]') as (gate, sink):
        assert (await send(await login(gate))).startswith("250")
        assert b"([127.0.0.1])" in sink.messages[0].content


async def test_the_limit_a_client_is_the_real_client_s(tmp_path: Path) -> None:
    limit = f"{TRUSTED}\nmax_connections_per_client = 1"
    async with open_gate(tmp_path, listener=limit) as (gate, _):
        port = gate.listeners["plain"].port
        await connect(port, V1)
        await connect(port, V6)
        second = await Dialog.open(port)
        await second.send(V1)
        assert (await second.reply()).startswith("421 4.7.0")


@rows(
    "header, is_allowed",
    [
        (V1, True),
        (V2, True),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 587\r\n", True),
        (V1.replace(b"192.0.2.7", b"192.0.3.7"), False),
        (V6, False),
        (LOCAL, False),
    ],
)
async def test_the_networks_of_an_access_key_are_those_of_the_real_client(
    with_networks: Opened, header: bytes, is_allowed: bool
) -> None:
    gate, _ = with_networks
    dialog = await connect(gate.listeners["plain"].port, header)
    await dialog.say("EHLO client.example")
    said = await dialog.say(f"AUTH PLAIN {auth_plain()}")
    assert said.startswith("235" if is_allowed else "535")
    if is_allowed:
        assert (await send(dialog)).startswith("250")


async def test_the_network_of_a_proxy_lets_nobody_behind_it_in(tmp_path: Path) -> None:
    proxies = ONE_NETWORK.replace("192.0.2.0/24", "127.0.0.0/8")
    async with open_gate(tmp_path, listener=TRUSTED, replace=(KEY, proxies)) as (gate, _):
        dialog = await connect(gate.listeners["plain"].port, V1)
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("535")


async def test_a_session_behind_a_proxy_ends_when_its_client_is_in_no_allowed_network(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=TRUSTED, replace=(KEY, ONE_NETWORK)) as (
        gate,
        _,
    ):
        dialog = await connect(gate.listeners["plain"].port, V1)
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        await gate.reload()
        assert (await dialog.say("NOOP")).startswith("250")
        accounts = tmp_path / "directory" / "accounts.toml"
        accounts.write_text(accounts.read_text().replace("192.0.2.0/24", "127.0.0.0/8"))
        await gate.reload()
        assert "(network-not-allowed: 192.0.2.7)" in await dialog.reply()
