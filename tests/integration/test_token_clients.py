"""Mail programs that log in by token: curl, by OAUTHBEARER."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Final

import pytest

from tests.support.clock import MovableClock
from tests.support.daemons import need
from tests.support.inprocess import MESSAGE
from tests.support.issuer import claims_at, signed
from tests.system.test_token_logins import KEY, gate_with_issuer

_SENDER: Final = "marketing@ses-example.com"


async def ran(*words: str) -> tuple[int, str]:
    """Run a program; its exit status and what it prints."""
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


def curl(port: int, token: str, message: Path) -> list[str]:
    return [
        *(need("curl", "curl"), "--silent", "--verbose", "--insecure"),
        *("--url", f"smtps://127.0.0.1:{port}/client.example"),
        *("--user", f"{KEY}:", "--oauth2-bearer", token),
        *("--mail-from", _SENDER, "--mail-rcpt", "jane@example.net"),
        *("--upload-file", str(message)),
    ]


@pytest.mark.parametrize("initial", [(), ("--sasl-ir",)], ids=["challenge", "initial"])
async def test_curl_sends_with_a_token_and_is_refused_with_a_wrong_one(
    tmp_path: Path, clock: MovableClock, initial: tuple[str, ...]
) -> None:
    message = tmp_path / "message.eml"
    message.write_text(MESSAGE, newline="")
    async with gate_with_issuer(tmp_path, clock) as ((gate, sink), _):
        port = gate.listeners["tls"].port
        token = signed(claims_at(clock.now()))
        status, printed = await ran(*curl(port, token, message), *initial)
        assert status == 0, printed
        assert "> AUTH OAUTHBEARER" in printed, printed
        assert len(sink.messages) == 1
        wrong = signed(claims_at(clock.now(), aud="another"))
        status, printed = await ran(*curl(port, wrong, message), *initial)
        assert status == 67, printed  # CURLE_LOGIN_DENIED
        assert len(sink.messages) == 1
