import resource
import sys

import pytest

from smtpgate.smtp.sockets import most_sockets, raise_descriptor_limit, shortage_of_descriptors


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit of open files, as the system tells it: soft, hard."""
    kept = [1024, 4096]

    def put(_what: int, limits: tuple[int, int]) -> None:
        kept[:] = limits

    monkeypatch.setattr(resource, "getrlimit", lambda _what: tuple(kept))
    monkeypatch.setattr(resource, "setrlimit", put)
    return kept


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "then"),
    [
        (1024, 4096, 2256, 2256),
        (1024, 4096, 100_000, 4096),
        (1024, resource.RLIM_INFINITY, 100_000, 100_000),
        (8192, 8192, 2256, 8192),  # never lowered
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 2256, resource.RLIM_INFINITY),
    ],
)
def test_the_limit_is_raised_as_far_as_wanted_and_allowed(
    limits: list[int], soft: int, hard: int, wanted: int, then: int
) -> None:
    limits[:] = soft, hard
    raise_descriptor_limit(wanted)
    assert limits == [then, hard]


def test_what_is_reserved_is_not_for_clients(limits: list[int]) -> None:
    assert most_sockets(256) == 768
    limits[0] = 100
    assert most_sockets(256) == 1
    limits[0] = resource.RLIM_INFINITY
    assert most_sockets(256) == sys.maxsize


def test_a_shortage_says_how_many_connections_there_are_files_for(limits: list[int]) -> None:
    assert shortage_of_descriptors(3840, 256) is None
    problem = shortage_of_descriptors(3841, 256)
    assert problem is not None
    assert "the limit of open files (4096) leaves 3840 connections" in problem
    limits[1] = resource.RLIM_INFINITY
    assert shortage_of_descriptors(10**9, 256) is None
