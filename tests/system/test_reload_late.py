"""A worker that does not answer a reload in time is replaced by another one."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from smtpgate.control import ControlRequest, FromWorker
from smtpgate.gate.frames import Drain, SwitchPart
from smtpgate.gate.parent import Parent
from tests.support.clock import move_loop, settle
from tests.support.inprocess import open_gate


class PlayedCrew:
    """Three workers: one switches, one cannot, and one says nothing."""

    def __init__(self) -> None:
        self.members = tuple(SimpleNamespace(number=number) for number in range(3))
        self.asked: list[ControlRequest] = []
        self.replaced: list[int] = []

    async def ask(self, request: ControlRequest) -> AsyncGenerator[FromWorker]:
        self.asked.append(request)
        yield FromWorker(0, value=True)
        yield FromWorker(1, problem="it is stopping")
        await asyncio.Event().wait()

    def check_of_relay(self, _name: str) -> tuple[bool, str]:
        return True, "up"

    def replace(self, number: int, _drain: Drain) -> None:
        self.replaced.append(number)


class PlayedParent(Parent):
    """The parent of a played crew, with the host of a real gate."""

    def __init__(self, host: Any) -> None:  # noqa: ANN401 - no more than a switch needs
        self.host, self.config, self.log = host, host.config, host.log
        self._changes, self._config_octets, self._own_path = 0, b"", None
        self.played = PlayedCrew()
        self.crew: Any = self.played


async def test_workers_that_cannot_switch_or_do_not_answer_are_replaced(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        parent = PlayedParent(gate.host)
        switching = asyncio.create_task(parent.switch(gate.config, gate.host.certificates))
        await settle()
        assert [type(one) for one in parent.played.asked] == [SwitchPart]
        assert not switching.done()
        await move_loop(61)
        assert await switching == [
            "worker 1: it is stopping",
            "worker 2: it did not answer in time",
        ]
        assert parent.played.replaced == [1, 2]
