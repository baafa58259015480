"""Lines that a client can cause at will: bounded for each client, and none lost uncounted."""

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.log.flood import MINUTE_S, RefusalFlood

ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "odd"])


@given(
    st.lists(st.tuples(ADDRESSES, st.sampled_from(["a", "b"]), st.floats(0, 30))),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_every_line_is_written_or_counted_and_few_are_written(
    lines: list[tuple[str, str, float]], bound: int, clients: int
) -> None:
    flood, now = RefusalFlood(bound, clients=clients), 0.0
    written, left_out = 0, 0
    for address, event, passed in lines:
        now += passed
        left_out += sum(sum(one.events.values()) for one in flood.ended(now))
        written += flood.passes(address, event, now)
    left_out += sum(sum(one.events.values()) for one in flood.end())
    assert written + left_out == len(lines)
    minutes = now // MINUTE_S + 1
    assert written <= bound * 2 * (clients + 1) * minutes


def test_a_flood_of_one_kind_hides_no_other_kind() -> None:
    flood = RefusalFlood(2)
    passed = [flood.passes("192.0.2.1", "a", 0) for _ in range(100)]
    assert sum(passed) == 2
    assert flood.passes("192.0.2.1", "b", 1)
    (one,) = flood.end()
    assert one.events == {"a": 98}


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    flood = RefusalFlood(1)
    assert flood.passes("2001:db8::1", "a", 0)
    assert not flood.passes("2001:db8::2", "a", 0)
    assert flood.passes("2001:db8:0:1::2", "a", 0)
    (one,) = flood.end()
    assert (one.client, one.events) == ("2001:db8::/64", {"a": 1})


def test_ipv4_clients_that_a_proxy_names_in_ipv6_do_not_share_a_bound() -> None:
    flood = RefusalFlood(1)
    assert flood.passes("::ffff:192.0.2.1", "a", 0)
    assert flood.passes("::ffff:192.0.2.2", "a", 0)
    assert not flood.passes("192.0.2.1", "a", 0)


def test_a_new_minute_begins_with_its_first_line() -> None:
    flood = RefusalFlood(1)
    assert flood.passes("192.0.2.1", "a", 0)
    assert not flood.passes("192.0.2.1", "a", 59)
    assert not flood.ended(59.9)
    assert len(flood.ended(60)) == 1
    assert flood.passes("192.0.2.1", "a", 100)
    assert not flood.ended(159)
