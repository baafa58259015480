"""Two Postfixes and a scripted server as upstreams: each fails in every way while mail passes.

500 messages a minute pass for as long as that takes. None is lost, and none arrives twice; the
journal has what is in doubt, and each upstream that was of no use for a message.
"""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from os import kill
from pathlib import Path
from random import Random
from typing import Final

from tests.integration.test_postfix_upstream import secret_file
from tests.soak.clients import Pace, SoakClient
from tests.soak.deliveries import Deliveries
from tests.soak.gauge import processes_of
from tests.soak.soak import TIMES, UPSTREAM_NAME, server_context, table, upstream_section
from tests.soak.upstream import FaultyUpstream, Mood
from tests.soak.verdict import journal_rows, judge, judge_log, judge_sums
from tests.support.authority import Authority, Certificate
from tests.support.daemons import Lab, eventually, free_port, listens, need
from tests.support.gate import GatePlan, start_gate
from tests.support.postfix import Postfix, postfix_upstream
from tests.support.recorder import Recorder, recorder
from tests.support.traffic import with_limits_of_all_kinds

PER_MINUTE: Final = 500
CLIENTS: Final = 8
PASSWORD: Final = "open sesame"
_BAD_S: Final = 4.0  # longer than the gate waits for a reply
_GOOD_S: Final = 1.5
_QUEUE_ID: Final = re.compile(rb"\(Postfix\)\s+with ESMTPSA id (\w+)")


class FaultyPostfix:
    """A real Postfix that is killed, frozen, full, or has a certificate that nobody trusts."""

    def __init__(self, lab: Lab, right: Certificate, wrong: Certificate) -> None:
        self.sink: Recorder = recorder(lab)
        self._lab, self._right, self._wrong = lab, right, wrong
        self.postfix: Postfix = postfix_upstream(
            lab,
            next_port=self.sink.port,
            cert_file=right.cert_file,
            key_file=right.key_file,
            username="gate",
            password=PASSWORD,
        )
        self._processes: list[int] = []

    @property
    def port(self) -> int:
        """The port that takes mail."""
        return self.postfix.port

    def die(self) -> None:
        """End all of its processes at once."""
        self._signal(signal.SIGKILL)
        self.postfix.daemon.wait()

    def rise(self) -> None:
        """Start it again, with the queue that it had."""
        eventually(lambda: not listens(self.port), "the port to be free")
        self.postfix.start_again(self._lab)

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self._processes:
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGCONT)

    def fill(self) -> None:
        """Have no room (452 4.3.1)."""
        self.postfix.change(queue_minfree="1000000000000000")

    def empty(self) -> None:
        """Have room again."""
        self.postfix.change(queue_minfree="0")

    def show(self, *, wrong: bool) -> None:
        """Show a certificate to new connections."""
        shown = self._wrong if wrong else self._right
        self.postfix.change(
            smtpd_tls_cert_file=str(shown.cert_file), smtpd_tls_key_file=str(shown.key_file)
        )

    def _signal(self, number: signal.Signals) -> None:
        self._processes = processes_of(self.postfix.daemon.pid)
        for pid in self._processes:
            with suppress(ProcessLookupError):
                kill(pid, number)


Step = tuple[Callable[[], object], Callable[[], object]]


async def fail_in_turn(
    first: FaultyPostfix, second: FaultyPostfix, third: FaultyUpstream
) -> None:
    """One trouble after the other, with a good moment between them; twice two at a time."""
    loop = asyncio.get_running_loop()

    def moody(mood: Mood) -> Step:
        def change(to: Mood) -> Callable[[], None]:
            return lambda: asyncio.run_coroutine_threadsafe(third.change(to), loop).result(10)

        return change(mood), change("fine")

    steps: list[tuple[Step, ...]] = [
        ((first.die, first.rise),),
        (moody("421"),),
        ((second.freeze, second.thaw),),
        (moody("slow"),),
        ((first.fill, first.empty),),
        (moody("full"),),
        ((lambda: second.show(wrong=True), lambda: second.show(wrong=False)),),
        (moody("certificate"),),
        ((first.die, first.rise), (second.die, second.rise)),
        (moody("closed"), (first.freeze, first.thaw)),
        (moody("frozen"),),
    ]
    for step in steps:
        for begin, _ in step:
            await asyncio.to_thread(begin)
        await asyncio.sleep(_BAD_S)
        for _, end in step:
            await asyncio.to_thread(end)
        await asyncio.sleep(_GOOD_S)


def plan_of(
    lab: Lab, ports: tuple[int, int, int], authority: Authority, state: Path
) -> GatePlan:
    secret = secret_file(lab, PASSWORD)
    login = f'username = "gate@upstream.example.com"\npassword_file = "{secret}"\n'
    first, second, third = ports
    return GatePlan(
        first,
        {
            "tls": "required",
            "tls_name": UPSTREAM_NAME,
            "ca_file": authority.ca_file,
            "username": "gate@upstream.example.com",
            "password_file": secret,
            **TIMES,
        },
        state_dir=state,
        workers=2,
        accounts=with_limits_of_all_kinds(),
        sections=upstream_section("second", second, authority.ca_file, login)
        + upstream_section("third", third, authority.ca_file),
    )


async def send_during(
    port: int, authority: Authority, troubles: Awaitable[None]
) -> list[SoakClient]:
    """Send at a steady rate until the troubles are over."""
    context, pace = authority.client_context(), Pace(PER_MINUTE / 60)
    clients = [SoakClient(number, 7, port, context, pace) for number in range(CLIENTS)]
    sending = [asyncio.create_task(one.run()) for one in clients]
    try:
        await troubles
    finally:
        for one in clients:
            one.stop()
        _, late = await asyncio.wait(sending, timeout=60)
    assert not late
    return clients


async def test_no_message_is_lost_or_doubled_while_every_upstream_fails_in_every_way(
    lab: Lab,
) -> None:
    need("postfix", "postfix")
    authority, state, deliveries = Authority(lab), lab.new_folder("state", 0o700), Deliveries()
    right = authority.certificate(UPSTREAM_NAME)
    wrong = Authority(lab).certificate(UPSTREAM_NAME)
    made = [await asyncio.to_thread(FaultyPostfix, lab, right, wrong) for _ in range(2)]
    contexts = (server_context(right), server_context(wrong))
    third = FaultyUpstream("third", free_port(), deliveries, Random(7), contexts)
    await third.start()
    plan = plan_of(lab, (made[0].port, made[1].port, third.port), authority, state)
    gate = await asyncio.to_thread(start_gate, lab, authority, plan)

    try:
        clients = await send_during(
            plan.submissions_port, authority, fail_in_turn(made[0], made[1], third)
        )
    finally:
        gate.terminate()
        assert await asyncio.to_thread(gate.daemon.wait) == 0
        await third.close()
    for name, one in zip(("default", "second"), made, strict=True):
        await asyncio.to_thread(one.postfix.wait_until_empty)
        for kept in one.sink.messages:
            queue_id = _QUEUE_ID.search(kept.header)
            assert queue_id is not None
            deliveries.add(kept.message, name, queue_id[1].decode())

    attempts = [attempt for one in clients for attempt in one.attempts]
    rows = list(journal_rows(state))
    verdict = judge(attempts, deliveries, rows)
    await judge_sums(verdict, state, attempts, rows)
    judge_log(verdict, [gate.daemon.log_file])
    assert not verdict.problems, table(verdict)
    tried = {one for row in rows for one in row.tried}
    assert {one.split(" ")[1] for one in tried} >= {"connect", "timeout", "421", "tls"}, tried
    assert {one.split(" ")[0] for one in tried} == {"default", "second", "third"}, tried
    by_upstream = {one.upstream for taken in deliveries.taken.values() for one in taken}
    assert by_upstream == {"default", "second", "third"}
    assert len(attempts) > PER_MINUTE / 2
