"""Haraka from npm: synchronous as the gate is, with its plugins for logins and signatures."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.bench.peers.peer import DOMAIN, HOSTNAME, SENDER, Peer, Running, Setup
from tests.support.daemons import LOOPBACK, free_port, listens, need
from tests.support.gate import Login
from tests.support.npm import npm_folder

_VERSIONS: Final = {"Haraka": "3.3.4"}
_PASSWORD: Final = "secret1"
_MAX_OCTETS: Final = 40_000_000
_FIELDS: Final = (
    "From, Sender, Reply-To, Subject, Date, Message-ID, To, Cc, MIME-Version, Content-Type, "
    "Content-Transfer-Encoding, List-Unsubscribe, List-Unsubscribe-Post"
)


def _files(setup: Setup, port: int, defaults: Path) -> dict[str, str]:
    """The files of its configuration."""
    (key,) = setup.keys
    return {
        "me": f"{HOSTNAME}\n",
        "smtp.ini": f"listen={LOOPBACK}:{port}\nnodes=0\n",
        "log.ini": "[main]\nlevel=NOTICE\n",
        "host_list": "",
        "databytes": f"{_MAX_OCTETS}\n",
        "connection.ini": re.sub(
            r"(?m)^;?bytes *=.*", f"bytes={_MAX_OCTETS}", defaults.read_text()
        ),
        "plugins": "auth/flat_file\ndkim\nqueue/smtp_forward\n",
        "auth_flat_file.ini": "[core]\nmethods=PLAIN\nconstrain_sender=true\n"
        f"[users]\n{SENDER}={_PASSWORD}\n",
        "smtp_forward.ini": f"host={LOOPBACK}\nport={setup.sink_port}\nenable_outbound=true\n",
        "dkim.ini": f"[sign]\nenabled=true\ndomain={DOMAIN}\nselector={key.selector}\n"
        f"headers={_FIELDS}\n[canon]\nbody=relaxed\n[verify]\nenabled=false\n",
        f"dkim/{DOMAIN}/private": key.pem.decode(),
        f"dkim/{DOMAIN}/selector": f"{key.selector}\n",
    }


def start_haraka(setup: Setup) -> Running:
    """Start it with one process; more of them need a cluster, which costs more a message."""
    node = need("node", "nodejs")
    if setup.authority:
        pytest.skip("Haraka is measured without TLS only")
    if [key.algorithm for key in setup.keys] != ["rsa"]:
        pytest.skip("Haraka is measured with one RSA key only")
    package = npm_folder("haraka", _VERSIONS) / "node_modules/Haraka"
    folder, port = setup.lab.new_folder("haraka"), free_port()
    (folder / "queue").mkdir()
    for name, text in _files(setup, port, package / "config/connection.ini").items():
        file: Path = folder / "config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    setup.lab.start(
        "haraka",
        [node, package / "bin/haraka", "-c", folder],
        folder / "log",
        ready=lambda: listens(port),
    )
    return Running(port, Login(SENDER, _PASSWORD))


HARAKA: Final = Peer("haraka", start_haraka)
