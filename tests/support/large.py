"""Large messages, and a gate that keeps them in files."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from smtpgate.demo.sink import Sink
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import ARNS, login, open_gate
from tests.support.waiting import until

SMALL_SPOOL: Final = "[message]\nspool_octets = 65536\n"
HEAD: Final = (
    f"{ARNS}From: Marketing <marketing@ses-example.com>\r\nTo: jane@example.net\r\n"
    "Subject: Spring\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
    "Message-ID: <spring@example.com>\r\n\r\n"
).encode()
LINE: Final = b"0123456789abcdef" * 4 + b"\r\n"


def body(octets: int) -> bytes:
    """Lines with all that is special on the way: dots, white space, 8-bit octets."""
    special = [b".", b"..", b".x", b"", b"\xc3\xa4", b" two  spaces \t"]
    lines = [LINE, *(line + b"\r\n" for line in special)]
    few = random.Random(octets).choices(lines, k=2000)
    whole = b"".join(few) * (octets // len(b"".join(few)) + 1)
    return whole[:octets].rstrip(b"\r\n") + b"\r\n"


def open_files(folder: Path) -> int:
    """The unnamed files in the folder that this process has open."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        found += target.startswith(str(folder)) and target.endswith(" (deleted)")
    return found


@asynccontextmanager
async def open_spooling_gate(
    folder: Path, *, sections: str = SMALL_SPOOL, gate: str = "", port: int | None = None
) -> AsyncIterator[tuple[Gate, Sink]]:
    """A gate that keeps little in memory; no file of it outlives its messages."""
    async with open_gate(folder, sections=sections, gate=gate, port=port) as (opened, sink):
        assert open_files(folder) == 0
        yield opened, sink
        await until(lambda: open_files(folder) == 0)
        assert [one.value for one in opened.spool.readings()] == [0, 0]


async def begin(gate: Gate, octets: bytes = b"") -> Dialog:
    """A session in the middle of a message."""
    dialog = await login(gate)
    sender = "MAIL FROM:<marketing@ses-example.com>"
    for command in (sender, "RCPT TO:<jane@example.net>", "DATA"):
        assert (await dialog.say(command))[:3] in ("250", "354")
    await dialog.send(octets)
    return dialog
