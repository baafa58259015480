"""Answers that are passed on in several turns of the event loop."""

import asyncio
from typing import Any

from smtpgate.sql.few_a_turn import FewATurn
from tests.support.clock import settle


async def test_a_defect_at_one_answer_holds_up_no_later_ones() -> None:
    problems, taken = list[Any](), list[int]()

    def take(answer: int) -> None:
        if answer in (2, 12):
            raise ValueError(answer)
        taken.append(answer)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, found: problems.append(found["exception"].args[0]))
    way = FewATurn(loop, take)
    loop.call_soon(way.add, range(20))
    await settle()
    loop.call_soon(way.add, [20])
    await settle()
    assert taken == [number for number in range(21) if number not in (2, 12)]
    assert problems == [2, 12]
    assert not way.waiting
