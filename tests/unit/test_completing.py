"""Messages that are completed while their callers wait for something else."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from smtpgate.completing import Completer, Early, Uncompleted
from smtpgate.core.arn import IdentityArn
from smtpgate.core.authorization.roles import Authorization
from smtpgate.core.identity import DkimKey, Identity
from smtpgate.core.message.reading import LARGE_OCTETS, read_message
from smtpgate.core.routing.route import RelayRoute
from smtpgate.core.routing.routes import Choice
from smtpgate.tasks import LoopTurns, Offload, Threads
from tests.support.clock import MovableClock, settle
from tests.support.journal import decision_for, submission

_CLOCK = MovableClock()
_ARN = IdentityArn.parse("arn:aws:ses:us-east-1:999999999999:identity/ses-example.com")
_MESSAGE = b"From: marketing@ses-example.com\r\n\r\n"


class _NotedKey:
    """A key that calls something for each signature."""

    algorithm = "rsa-sha256"

    def __init__(self, on_sign: Callable[[], object]) -> None:
        self._on_sign = on_sign

    def sign(self, digest: bytes) -> bytes:
        self._on_sign()
        return digest


def _draft(on_sign: Callable[[], object], body: bytes = b"Hello.\r\n") -> Uncompleted:
    identity = Identity(_ARN, True, dkim_keys=(DkimKey("s1", _NotedKey(on_sign)),))
    decision = decision_for("marketing@ses-example.com")
    return Uncompleted(
        submission(_CLOCK).submission,
        read_message(_MESSAGE + body, smtputf8=False),
        Authorization((), decision, identity, ()),
        Choice(RelayRoute("", ())),
    )


def _completer() -> Completer:
    return Completer(
        hostname="mx.example.com",
        mask_client=False,
        offload=Offload(LoopTurns(_CLOCK.monotonic), Threads("message")),
        on_error=lambda _: None,
    )


def _begun(completer: Completer, draft: Uncompleted) -> Early:
    early = completer.begin(draft)
    assert early is not None
    return early


async def test_a_request_that_is_sent_at_the_end_of_the_turn_is_sent_before() -> None:
    steps = list[str]()
    early = _begun(_completer(), _draft(lambda: steps.append("signed")))
    asyncio.get_running_loop().call_soon(steps.append, "sent")
    completed = await early.result()
    assert (completed.domain, completed.selectors) == ("ses-example.com", ("s1",))
    assert steps == ["sent", "signed"]


async def test_each_has_a_turn_of_the_event_loop_to_itself() -> None:
    turn, signed_in = 0, list[int]()
    completer = _completer()
    drafts = [_draft(lambda: signed_in.append(turn)) for _ in range(4)]
    earlies = [_begun(completer, draft) for draft in drafts]
    while len(signed_in) < len(drafts):
        await asyncio.sleep(0)
        turn += 1
    assert len(set(signed_in)) == len(drafts)
    for early in earlies:
        await early.result()


async def test_one_whose_caller_has_left_is_not_completed_and_holds_up_no_other() -> None:
    signed = list[str]()
    completer = _completer()
    first = _begun(completer, _draft(lambda: signed.append("first")))
    second = _begun(completer, _draft(lambda: signed.append("second")))
    first.end()
    await second.result()
    assert signed == ["second"]


async def test_those_whose_callers_have_left_take_no_turn() -> None:
    signed = list[int]()
    completer = _completer()
    left = [_begun(completer, _draft(lambda: signed.append(0))) for _ in range(20)]
    last = _begun(completer, _draft(lambda: signed.append(1)))
    for early in left:
        early.end()
    for _ in range(4):
        await asyncio.sleep(0)
    assert signed == [1]
    await last.result()


async def test_an_error_that_no_caller_waits_for_is_not_reported_as_lost() -> None:
    problems = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, found: problems.append(found))
    early: Early | None = _begun(_completer(), _draft(lambda: 1 // 0))
    await settle()
    assert early is not None
    early.end()
    early = None  # asyncio reports it when nothing refers to it any more
    _ = gc.collect()
    await settle()
    assert problems == []


async def test_an_error_is_the_callers_and_the_next_one_has_its_turn() -> None:
    completer = _completer()
    first, second = (_begun(completer, _draft(call)) for call in (lambda: 1 // 0, lambda: 0))
    with pytest.raises(ZeroDivisionError):
        await first.result()
    assert (await second.result()).selectors == ("s1",)


async def test_what_is_long_or_may_be_for_nothing_is_not_begun() -> None:
    completer = _completer()
    assert completer.begin(_draft(int, b"a\r\n" * (LARGE_OCTETS // 3 + 1))) is None
    account_id = _draft(int).submission.principal.account.id
    completer.note(account_id, goes_on=False)
    assert completer.begin(_draft(int)) is None
    completer.note("an other", goes_on=True)
    assert completer.begin(_draft(int)) is None
    completer.note(account_id, goes_on=True)
    _begun(completer, _draft(int)).end()


def test_the_accounts_that_are_remembered_are_bounded() -> None:
    completer = _completer()
    for number in range(10_000):
        completer.note(str(number), goes_on=False)
        assert len(completer._refused) <= 4096
