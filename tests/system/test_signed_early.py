"""Messages that are signed while the store counts them and writes them down."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smtpgate.authorizing import Authorizer
from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import Charge, LimitExceededError
from smtpgate.core.signing import signature_fields
from smtpgate.directory.live import LiveDirectory
from smtpgate.ports import Begun
from smtpgate.store.host import HostStore
from tests.support.clock import settle
from tests.support.inprocess import is_signed, login, open_gate, send

_QUOTA = 'name = "Delegate sender"\nmax_24h_send = 1000'
_ASK = HostStore.begin

Sign = Callable[..., Any]
OnSign = Callable[[Callable[[], object]], list[None]]


@pytest.fixture
def on_sign(monkeypatch: pytest.MonkeyPatch) -> OnSign:
    """Have something called before each signature, and get the list of them."""

    def patch(call: Callable[[], object]) -> list[None]:
        made = list[None]()

        def noted(*arguments: Any) -> Any:  # noqa: ANN401 - the signature's fields
            made.append(None)
            call()
            return signature_fields(*arguments)

        monkeypatch.setattr("smtpgate.completing.signature_fields", noted)
        return made

    return patch


async def test_the_store_may_wait_for_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_sign: OnSign
) -> None:
    signed = asyncio.Event()
    on_sign(signed.set)

    async def begin(store: HostStore, *arguments: Any) -> Begun:  # noqa: ANN401
        async with asyncio.timeout(10):
            await signed.wait()
        return await _ASK(store, *arguments)

    monkeypatch.setattr(HostStore, "begin", begin)
    async with open_gate(tmp_path) as (gate, sink):
        assert (await send(await login(gate))).startswith("250")
        assert is_signed(sink.messages[0].content)


async def test_after_a_refusal_nothing_is_signed_before_it_is_counted(
    tmp_path: Path, on_sign: OnSign
) -> None:
    made = on_sign(lambda: None)
    tight = _QUOTA.replace("1000", "3")
    two = ("a@example.net", "b@example.net")
    async with open_gate(tmp_path, replace=(_QUOTA, tight)) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, to=two)).startswith("250")
        assert (await send(dialog, to=two)).startswith("454 4.7.0")
        before = len(made)
        assert (await send(dialog, to=two)).startswith("454 4.7.0")
        assert len(made) == before
        assert (await send(dialog)).startswith("250")
        assert len(made) == before + 1
        owner = await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(owner)).startswith("250")
        assert all(is_signed(one.content) for one in sink.messages)
        await gate.log.flush()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    refused = [line for line in lines if line.get("outcome") == "deferred"]
    assert len(refused) == 2
    assert not any("signing_domain" in line or "route" in line for line in refused)


async def test_a_message_refused_at_once_is_not_signed_and_one_that_passes_ends_the_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_sign: OnSign
) -> None:
    signed, asked = asyncio.Event(), 0
    made = on_sign(signed.set)

    async def begin(
        store: HostStore, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise LimitExceededError(
                charges[0], "max-24h-send", recipients=1, left=0, retry_after=None
            )
        if asked == 3:
            signed.clear()
            async with asyncio.timeout(10):
                await signed.wait()
        return await _ASK(store, done, charges, now)

    monkeypatch.setattr(HostStore, "begin", begin)
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("454 4.7.0")
        await settle()
        assert made == []
        assert (await send(dialog)).startswith("250")
        assert (await send(dialog)).startswith("250")
        assert len(made) == 2


async def test_an_account_that_is_refused_causes_no_signatures_though_others_pass(
    tmp_path: Path, on_sign: OnSign
) -> None:
    made = on_sign(lambda: None)
    two = ("a@example.net", "b@example.net")
    async with open_gate(tmp_path, replace=(_QUOTA, _QUOTA.replace("1000", "1"))) as (gate, _):
        refused, owner = await login(gate), await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(refused, to=two)).startswith("454 4.7.0")
        before = len(made)
        for _ in range(2):
            assert (await send(owner)).startswith("250")
            assert (await send(refused, to=two)).startswith("454 4.7.0")
        assert len(made) == before + 2
        assert (await send(refused)).startswith("250")


async def test_after_a_message_to_nobody_nothing_is_signed_before_it_goes_on(
    tmp_path: Path, on_sign: OnSign
) -> None:
    made = on_sign(lambda: None)
    simulated = ("success@simulator.amazonses.com",)
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, to=simulated)).startswith("250")
        before = len(made)
        assert (await send(dialog, to=simulated)).startswith("250")
        assert len(made) == before
        assert (await send(dialog)).startswith("250")
        assert len(made) == before + 1
        assert is_signed(sink.messages[0].content)


async def test_a_message_that_cannot_be_signed_is_given_back(
    tmp_path: Path, on_sign: OnSign
) -> None:
    problems: list[Exception] = [ValueError("the key is broken")]

    def fail_once() -> None:
        if problems:
            raise problems.pop()

    on_sign(fail_once)
    async with open_gate(tmp_path, replace=(_QUOTA, _QUOTA.replace("1000", "1"))) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("451 4.7.5")
        assert (await send(dialog)).startswith("250"), "it was counted, and is not any more"
        assert (await send(dialog)).startswith("454 4.7.0")


@pytest.mark.parametrize("is_as_before", [True, False])
async def test_a_message_that_was_authorized_again_is_signed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_sign: OnSign, *, is_as_before: bool
) -> None:
    signed, refused = asyncio.Event(), list[None]()
    made = on_sign(signed.set)

    async def begin(
        store: HostStore, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        if not refused:  # as if the rate had no tokens, until it was signed
            refused.append(None)
            await signed.wait()
            wait = timedelta(milliseconds=1)
            raise LimitExceededError(
                charges[0], "max-send-rate", recipients=1, left=0, retry_after=wait
            )
        return await _ASK(store, done, charges, now)

    monkeypatch.setattr(HostStore, "begin", begin)
    if not is_as_before:

        async def differs(*_: Any) -> bool:  # noqa: ANN401
            return False

        monkeypatch.setattr(LiveDirectory, "is_valid", lambda *_: False)
        monkeypatch.setattr(Authorizer, "_is_as_before", differs)
    async with open_gate(tmp_path) as (gate, sink):
        assert (await send(await login(gate))).startswith("250")
        assert is_signed(sink.messages[0].content)
    assert len(made) == (1 if is_as_before else 2)
