"""The README's five minutes, as they stand there, up to the first mail of a Postfix.

Only host names, ports and paths are others, since everything is on loopback.
"""

import os
import re
import shlex
import sys
import urllib.request
from pathlib import Path
from typing import Final

from tests.support.daemons import LOOPBACK, Lab, eventually, free_port, listens
from tests.support.forks import completed
from tests.support.postfix import postfix_client
from tests.support.reference import README
from tests.support.relayhost import Relayhost
from tests.support.smtpsink import smtp_sink

ROOT: Final = README.parent
TEXT: Final = README.read_text("utf-8")


def smtpgate(*arguments: str | Path) -> str:
    done = completed(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def block_after(words: str) -> str:
    """The code block that follows those words in the README."""
    block = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL).search(TEXT, TEXT.index(words))
    assert block is not None
    return block[1]


def metrics(port: int) -> bytes:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5) as answer:
        text: bytes = answer.read()
        return text


def test_the_five_minutes_lead_to_a_delivered_message(lab: Lab) -> None:
    etc, sink, port, http = lab.new_folder("etc"), smtp_sink(lab), free_port(), free_port()
    # 1. init, with the words of the README
    init = block_after("Use your own names")
    init = init.replace("gate.example.com", "localhost").replace("/var/lib", f"{etc}/lib")
    words = shlex.split(init)
    output = smtpgate(*words[1:-1], etc)
    login = re.search(r"user name (\S+), password (\S+)", output)
    assert login is not None
    # 2. where mail goes
    config = etc / "smtpgate.toml"
    text = config.read_text()
    for old, new in {
        '"0.0.0.0"': f'"{LOOPBACK}"',
        "port = 587": f"port = {port}",
        "port = 465": f"port = {free_port()}",
        "\nport = 25\n": f"\nport = {sink.port}\n",
        "port = 9587": f"port = {http}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    # 3. check, and start
    assert "fine" in smtpgate("check-config", config)
    lab.start(
        "smtpgate",
        [sys.executable, "-m", "smtpgate", "serve", "--config", config],
        etc / "log",
        ready=lambda: listens(port),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # 4. Postfix, with the lines of the README
    lines = block_after("### 4. Configure Postfix").strip().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines)
    passwords = lab.new_folder("passwords") / "gate_password"
    passwords.write_text(f"[localhost]:{port} {login[1]}:{login[2]}\n")
    postfix = postfix_client(
        lab,
        Relayhost(port, login[1], login[2], etc / "private/tls.crt", "localhost"),
        settings={
            **settings,
            "relayhost": f"[localhost]:{port}",
            "smtp_tls_CAfile": etc / "private/tls.crt",
            "smtp_sasl_password_maps": f"texthash:{passwords}",
        },
    )
    # 5. send, as the README does
    send = re.search(r"printf '(.+?)' \| sendmail -f (\S+) (\S+)", TEXT)
    assert send is not None
    message = send[1].replace("\\n", "\r\n").encode()
    postfix.inject(message, send[2], [send[3]])
    (delivered,) = sink.wait_for(1)
    assert b"DKIM-Signature:" in delivered.header
    assert b"d=ses-example.com" in delivered.header
    assert b"hello" in delivered.body
    # The sink has it before the gate has written down the verdict.
    accepted = b'smtpgate_submissions_total{outcome="accepted"'
    eventually(lambda: accepted in metrics(http), "the message to be counted")
