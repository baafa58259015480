"""A limit of open files that a test pretends."""

import resource

import pytest


def pretend_limits(patch: pytest.MonkeyPatch, soft: int, hard: int) -> list[int]:
    """Have the system show these limits, and take others; the list has those that hold."""
    limits = [soft, hard]

    def put(_what: int, wanted: tuple[int, int]) -> None:
        limits[:] = wanted

    patch.setattr(resource, "getrlimit", lambda _what: tuple(limits))
    patch.setattr(resource, "setrlimit", put)
    return limits
