"""Warnings of ``check-config`` about upstreams whose names lead nowhere, or to the gate."""

import socket
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.config import Config
from smtpgate.config.sections import ListenerConfig
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.gate.upstream import suspicious_upstreams

_LISTENER: Final[dict[str, Any]] = {
    "name": "submission",
    "tls": "none",
    "allow_plaintext_auth": True,
}


def config_of(tmp_path: Path, *hosts: str, port: int = 2525) -> Config:
    """A gate on a port of loopback, with upstreams on the same port of these hosts."""
    return Config.model_validate(
        {
            "listener": [ListenerConfig(address="127.0.0.1", port=2525, **_LISTENER)],
            "upstream": [
                UpstreamConfig(name=f"up{at}", host=host, port=port)
                for at, host in enumerate(hosts)
            ],
            "directory": {"apply": str(tmp_path)},
        }
    )


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows two names."""
    known = {"gate.example.com": "127.0.0.1", "mail.example.net": "192.0.2.1"}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, **options: Any) -> Any:  # noqa: ANN401 - as the real one
        if host in known:
            host = known[host]
        elif not host[0].isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def test_upstreams_whose_names_lead_nowhere_or_to_the_gate_are_warned_of(
    tmp_path: Path,
) -> None:
    hosts = ("mail.example.net", "gate.example.com", "nowhere.example.net", "192.0.2.7")
    found = await suspicious_upstreams(config_of(tmp_path, *hosts))
    assert found == [
        "upstream.up1.host: gate.example.com leads to listener.submission of this gate: "
        "mail would loop",
        "upstream.up2.host: nowhere.example.net cannot be resolved: name or service not known",
    ]


async def test_another_port_of_this_machine_is_another_server(tmp_path: Path) -> None:
    assert not await suspicious_upstreams(config_of(tmp_path, "gate.example.com", port=2526))
