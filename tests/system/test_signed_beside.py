"""Messages that a gate with a core to spare signs in a thread beside its event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from smtpgate.core.message.headers import Field
from smtpgate.core.signing import UnsignedField, sign
from smtpgate.core.upstream import Delivery
from smtpgate.gate.gate import Gate
from tests.support.inprocess import MESSAGE, Opened, is_signed, login, open_gate, send

_TOGETHER = 4


@asynccontextmanager
async def _gate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_spare: bool = True
) -> AsyncIterator[Opened]:
    monkeypatch.setattr("smtpgate.gate.gate.has_spare_core", lambda workers: is_spare)
    async with open_gate(folder) as opened:
        yield opened


def _gather_before_upstream(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have messages wait for each other before they are relayed, so that they are together."""
    deliver, waiting, together = gate.upstream.deliver, list[None](), asyncio.Event()

    async def wait(*arguments: Any) -> Delivery:  # noqa: ANN401
        waiting.append(None)
        if len(waiting) == _TOGETHER:
            together.set()
        await together.wait()
        return await deliver(*arguments)

    monkeypatch.setattr(gate.upstream, "deliver", wait)


def _has_thread() -> bool:
    return any(one.name == "smtpgate-signatures" for one in threading.enumerate())


async def _send(gate: Gate, count: int) -> list[str]:
    dialogs = [await login(gate) for _ in range(count)]
    messages = [MESSAGE.replace("Spring", f"Spring {number}") for number in range(count)]
    return list(await asyncio.gather(*map(send, dialogs, messages)))


async def test_messages_that_come_together_are_signed_there_and_a_lone_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _gate(tmp_path, monkeypatch) as (gate, sink):
        assert (await _send(gate, 1))[0].startswith("250")
        assert not _has_thread()
        _gather_before_upstream(gate, monkeypatch)
        replies = await _send(gate, _TOGETHER)
        assert all(reply.startswith("250") for reply in replies), replies
        assert _has_thread()
        assert len(sink.messages) == 1 + _TOGETHER
        assert all(is_signed(one.content) for one in sink.messages)
    assert not _has_thread()


async def test_without_a_core_to_spare_all_are_signed_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _gate(tmp_path, monkeypatch, is_spare=False) as (gate, sink):
        _gather_before_upstream(gate, monkeypatch)
        replies = await _send(gate, _TOGETHER)
        assert all(reply.startswith("250") for reply in replies), replies
        assert not _has_thread()
        assert all(is_signed(one.content) for one in sink.messages)


async def test_a_signature_that_fails_there_refuses_its_message_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = list[str]()

    def fail_once(fields: Sequence[UnsignedField]) -> tuple[Field, ...]:
        thread = threading.current_thread()
        if not failures and thread is not threading.main_thread():
            failures.append(thread.name)
            raise ValueError("the key is broken")
        return sign(fields)

    monkeypatch.setattr("smtpgate.completing.sign", fail_once)
    async with _gate(tmp_path, monkeypatch) as (gate, sink):
        _gather_before_upstream(gate, monkeypatch)
        replies = sorted(await _send(gate, _TOGETHER + 1))
        assert [reply[:9] for reply in replies] == ["250 2.0.0"] * _TOGETHER + ["451 4.7.5"]
        assert "(signing-failed; " in replies[-1]
        assert failures == ["smtpgate-signatures"]
        assert len(sink.messages) == _TOGETHER
        assert all(is_signed(one.content) for one in sink.messages)
        await gate.log.flush()
    assert "the key is broken" in (tmp_path / "log").read_text()
