"""An identity that is deleted while mail with it is under way.

What was decided before is carried through; what is decided after has no identity to send with.
"""

from pathlib import Path
from typing import Final

from smtpgate.directory.identities import delete_identity, identity
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.directory import ACTOR
from tests.support.inprocess import MESSAGE, is_signed, login, open_gate, send
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.world import REGION

OWNER, DOMAIN = "888888888888", "ses-example.com"
HEAD, TAIL = MESSAGE.encode()[:40], MESSAGE.encode()[40:] + b".\r\n"
REFUSED: Final = "554 5.7.1"


async def delete(gate: Gate) -> None:
    """As the command does, and wait until the gate has read the change."""
    async with gate.store.changing(ACTOR) as change:
        row = await identity(change.connection, OWNER, REGION, DOMAIN)
        await delete_identity(change, row, gate.store.partition)
    await gate.directory.catch_up()


async def begin(dialog: Dialog) -> None:
    """A transaction up to the middle of its message."""
    await dialog.send(
        b"MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<jane@example.net>\r\nDATA\r\n"
    )
    for wanted in ("250", "250", "354"):
        assert (await dialog.reply()).startswith(wanted)
    await dialog.send(HEAD)


async def test_what_is_on_its_way_upstream_arrives_signed_and_the_next_is_refused(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await begin(dialog)
        await dialog.send(TAIL)
        await upstream.until(lambda: bool(upstream.messages))
        await delete(gate)
        upstream.release()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok 0100")
        assert is_signed(upstream.messages[0])
        assert (await send(dialog)).startswith(REFUSED)
        assert len(upstream.messages) == 1


async def test_what_is_on_its_way_in_is_refused(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")  # so that the identity is known
        await begin(dialog)
        await delete(gate)
        await dialog.send(TAIL)
        assert (await dialog.reply()).startswith(REFUSED)
        assert len(sink.messages) == 1
