"""The ports that tests give to their daemons."""

import os
from multiprocessing import get_context

from tests.support.daemons import free_port


def _some_ports() -> set[int]:
    return {free_port() for _ in range(100)}


def test_a_process_picks_no_port_twice_in_a_row_of_a_hundred() -> None:
    assert len(_some_ports()) == 100


def test_two_processes_pick_no_port_in_common() -> None:
    with get_context("fork").Pool(1) as other:
        assert other.apply(os.getpid) != os.getpid()
        assert other.apply(_some_ports).isdisjoint(_some_ports())
