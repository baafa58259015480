"""Messages whose delivery is cut short: what is certain of them is kept, counted and logged."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from smtpgate.core.limits import Subject
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.reply import Reply
from smtpgate.core.upstream import Answered, Delivery, InDoubt
from smtpgate.gate.gate import Gate
from smtpgate.ports import DeliveryAttempt
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.upstream_server import HOLD, UpstreamServer, open_upstream
from tests.support.world import DELEGATE


async def hand_over(dialog: Dialog) -> None:
    """Send a message to its final dot, and do not wait for the verdict."""
    await dialog.say("MAIL FROM:<marketing@ses-example.com>")
    await dialog.say("RCPT TO:<jane@example.net>")
    await dialog.say("DATA")
    await dialog.send(MESSAGE.encode() + b".\r\n")


async def last_entry(gate: Gate, folder: Path) -> dict[str, Any]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    entry: dict[str, Any] = [line for line in lines if "outcome" in line][-1]
    return entry


ACCEPTED = Answered("sink", Reply(250, "2.0.0", "queued"), ())
REFUSED = Answered("sink", Reply(552, "5.3.4", "too large"), ())


@pytest.mark.parametrize(
    ("certain", "outcome", "reason", "used"),
    [
        (None, "deferred", "gate-stopped", 0),
        (InDoubt("no answer"), "in-doubt", "in-doubt", 1),
        (ACCEPTED, "accepted", "accepted", 1),
        (REFUSED, "refused", "upstream-reply", 0),
    ],
    ids=["nothing", "doubt", "accepted", "refused"],
)
@pytest.mark.parametrize("how", ["by force", "by a fault"])
async def test_of_a_delivery_that_is_cut_short_what_is_certain_is_kept_and_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    certain: Answered | InDoubt | None,
    outcome: str,
    reason: str,
    used: int,
) -> None:
    cut = asyncio.CancelledError() if how == "by force" else RuntimeError("a fault")

    async def deliver(
        _envelope: Envelope,
        _message: Any,  # noqa: ANN401
        attempt: DeliveryAttempt,
    ) -> Delivery:
        attempt.certain = certain
        raise cut

    async with open_gate(tmp_path) as (gate, _):
        monkeypatch.setattr(gate.upstream, "deliver", deliver)
        dialog = await login(gate)
        if how == "by force":
            await hand_over(dialog)
            assert await dialog.is_closed()
            await gate.sessions.drain(5)
        else:
            reply = await send(dialog)
            if certain is None:
                reason = "internal-error"
            assert reply.startswith("250" if certain is ACCEPTED else ("4", "5"))
            assert reason in reply or certain is ACCEPTED
        entry = await last_entry(gate, tmp_path)
        assert (entry["outcome"], entry["reason"]) == (outcome, reason)
        assert await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now()) == used


def is_delayed(upstream: UpstreamServer, verb: str) -> bool:
    if verb == "MESSAGE":
        return bool(upstream.messages)
    return any(verb in ("CONNECT", *visit.verbs) for visit in upstream.visits)


@pytest.mark.parametrize(
    ("current", "outcome", "reason", "used"),
    [
        ("CONNECT", "deferred", "gate-stopped", 0),
        ("MAIL", "deferred", "gate-stopped", 0),
        ("DATA", "deferred", "gate-stopped", 0),
        ("MESSAGE", "in-doubt", "in-doubt", 1),
    ],
)
async def test_a_message_that_is_cut_off_by_force_is_in_doubt_once_its_final_dot_left(
    tmp_path: Path, current: str, outcome: str, reason: str, used: int
) -> None:
    async with (
        open_upstream("PIPELINING") as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers[current] = HOLD
        await hand_over(await login(gate))
        await upstream.until(lambda: is_delayed(upstream, current))
        await gate.sessions.drain(0)
        entry = await last_entry(gate, tmp_path)
        assert (entry["outcome"], entry["reason"]) == (outcome, reason)
        assert await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now()) == used
