import resource
import sys

import pytest

from smtpgate.config.sections import ListenerConfig
from smtpgate.smtp.sockets import (
    ConnectionSlot,
    ConnectionSlots,
    Sockets,
    most_sockets,
    raise_descriptor_limit,
    shortage_of_descriptors,
)
from tests.support.open_files import pretend_limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit of open files, as the system tells it: soft, hard."""
    return pretend_limits(monkeypatch, 1024, 4096)


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


@pytest.mark.parametrize(
    ("one", "other", "is_one_client"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:1::1", "2001:db8:1:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_addresses_that_one_host_may_use_are_one_client(
    one: str, other: str, is_one_client: bool
) -> None:
    config = ListenerConfig(
        name="plain",
        port=0,
        tls="none",
        allow_plaintext_auth=True,
        max_connections_per_client=1,
    )
    sockets = Sockets(10)
    places = ConnectionSlots(config, sockets)
    first, second = places.take(), places.take()
    assert isinstance(first, ConnectionSlot)
    assert isinstance(second, ConnectionSlot)
    assert first.name_client(one) is None
    assert second.name_client(other) == ("connections-per-client" if is_one_client else None)
    for place in (first, second, first):
        place.give_back()
    assert (len(places), sockets.open) == (0, 0)
    third = places.take()
    assert isinstance(third, ConnectionSlot)
    assert third.name_client(other) is None
