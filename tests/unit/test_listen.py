"""Listening: one function makes or takes every socket of the gate."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from smtpgate.config import Config, load_config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.listen import ListeningSockets, bind, sockets_by_section
from tests.support.daemons import LOOPBACK, free_port

CONFIG = """\
[listener.plain]
address = "{address}"
port = {port}
tls = "none"
allow_plaintext_auth = true
[listener.second]
address = "127.0.0.1"
port = 0
tls = "none"
allow_plaintext_auth = true
[upstream.default]
host = "192.0.2.1"
tls = "off"
[http]
enabled = {http}
port = 0
"""


def config(folder: Path, address: str = LOOPBACK, port: int = 0, http: str = "true") -> Config:
    file = folder / "smtpgate.toml"
    file.write_text(CONFIG.format(address=address, port=port, http=http))
    return load_config(file)


def port_of(sockets: ListeningSockets, section: str) -> int:
    port: int = sockets[section].getsockname()[1]
    return port


def is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def listening() -> socket.socket:
    return socket.create_server((LOOPBACK, 0))


@pytest.mark.parametrize("address", [LOOPBACK, "::1", "localhost"])
def test_each_section_with_an_address_has_a_socket_that_listens(
    tmp_path: Path, address: str
) -> None:
    with bind(config(tmp_path, address)) as sockets:
        for section in ("listener.plain", "listener.second", "http"):
            where = address if section == "listener.plain" else LOOPBACK
            socket.create_connection((where, port_of(sockets, section)), 5).close()


def test_what_a_connection_writes_is_sent_at_once(tmp_path: Path) -> None:
    handed = listening()
    with bind(config(tmp_path), {"listener.plain": handed}) as sockets:
        for section in ("listener.plain", "listener.second", "http"):
            with socket.create_connection((LOOPBACK, port_of(sockets, section)), 5):
                accepted, _ = sockets[section].accept()
                with closing(accepted):
                    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_section_that_is_off_has_none(tmp_path: Path) -> None:
    with bind(config(tmp_path, http="false")) as sockets, pytest.raises(KeyError):
        _ = sockets["http"]


def test_all_are_closed_at_the_end(tmp_path: Path) -> None:
    with bind(config(tmp_path)) as sockets:
        ports = [port_of(sockets, name) for name in ("listener.plain", "http")]
    assert all(map(is_free, ports))


def test_a_port_that_is_taken_is_named_with_its_section_and_key(tmp_path: Path) -> None:
    with closing(listening()) as other:
        port = other.getsockname()[1]
        with pytest.raises(OpenError) as refusal:
            bind(config(tmp_path, port=port))
    assert str(refusal.value) == (
        f"listener.plain.port: cannot listen on 127.0.0.1 port {port}: address already in use; "
        f"another program has it, or another gate"
    )


def test_an_address_of_another_machine_is_named_with_its_section_and_key(
    tmp_path: Path,
) -> None:
    loaded = config(tmp_path)
    http = loaded.http.model_copy(update={"address": "192.0.2.1"})
    loaded = loaded.model_copy(update={"http": http})
    port = free_port()
    first = loaded.listeners[0].model_copy(update={"port": port})
    loaded = loaded.model_copy(update={"listeners": (first, loaded.listeners[1])})
    with pytest.raises(
        OpenError, match=r"^http\.address: cannot listen on 192\.0\.2\.1 port 0"
    ):
        bind(loaded)
    assert is_free(port), "those that were made before are closed"


def test_an_inherited_socket_is_taken_as_it_is(tmp_path: Path) -> None:
    theirs = listening()
    with bind(config(tmp_path, port=1), {"listener.plain": theirs}) as sockets:
        assert sockets["listener.plain"] is theirs
        assert port_of(sockets, "http")
    assert theirs.fileno() == -1


@pytest.mark.parametrize(
    ("section", "is_listening", "problem"),
    [
        ("listener.gone", True, "listener.gone: a socket was inherited, and there is no such"),
        ("listener.plain", False, "listener.plain: the inherited socket does not listen"),
    ],
)
def test_an_inherited_socket_that_cannot_be_used_stops_the_start(
    tmp_path: Path, section: str, is_listening: bool, problem: str
) -> None:
    theirs = listening() if is_listening else socket.socket()
    with pytest.raises(OpenError, match=problem):
        bind(config(tmp_path), {section: theirs})
    assert theirs.fileno() == -1


# -- sockets of a service manager --------------------------------------------------------------


def test_a_socket_is_for_the_section_that_it_names_or_else_for_the_one_at_its_port(
    tmp_path: Path,
) -> None:
    named, unnamed = listening(), listening()
    with closing(named), closing(unnamed):
        loaded = config(tmp_path, port=unnamed.getsockname()[1])
        passed = [("listener.second", named), ("smtpgate.socket", unnamed)]
        wanted = {"listener.second": named, "listener.plain": unnamed}
        assert sockets_by_section(loaded, passed) == wanted


def test_a_socket_that_is_for_no_section_stops_the_start(tmp_path: Path) -> None:
    one, other = listening(), listening()
    with pytest.raises(OpenError, match=r"127\.0\.0\.1 port \d+ was passed, and no section"):
        sockets_by_section(config(tmp_path), [("smtpgate.socket", one)])
    twice = [("http", other), ("http", listening())]
    with pytest.raises(OpenError, match="http: two sockets were passed for it"):
        sockets_by_section(config(tmp_path), twice)
    local = socket.socket(socket.AF_UNIX)
    with pytest.raises(OpenError, match="neither IPv4 nor IPv6"):
        sockets_by_section(config(tmp_path), [("", local)])
    assert [one.fileno(), other.fileno(), local.fileno()] == [-1, -1, -1], "they are closed"
