"""Answers that are passed on in several turns of the event loop."""

import asyncio

from smtpgate.sql.few_a_turn import FewATurn
from tests.support.clock import settle


async def test_answers_that_come_while_others_wait_are_passed_on_after_them() -> None:
    taken = list[int]()
    way = FewATurn(asyncio.get_running_loop(), taken.append)
    way.add(range(10))
    assert taken == list(range(8))
    way.add([10, 11])
    assert taken == list(range(8)), "no more in this turn"
    await settle()
    assert taken == list(range(12))
