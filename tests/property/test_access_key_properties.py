"""Properties of an access key for every moment, every network and every client."""

import ipaddress
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.policy.values import as_network
from smtpgate.core.secret import Secret

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
PRINCIPAL: Final = Principal.root(Account("999999999999", "Delegate", SendingLimits(-1, -1)))

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
zones = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
moments = st.datetimes(timezones=zones)
nearby = st.timedeltas(timedelta(seconds=-2), timedelta(seconds=2))
addresses = st.ip_addresses()


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network of any size; IPv4 inside IPv6 is refused where networks are read."""
    address = draw(addresses)
    length = draw(st.integers(0, address.max_prefixlen))
    network: Network = ipaddress.ip_network((address, length), strict=False)
    return network


def key_of(
    is_active: bool = True,
    expires_at: datetime | None = None,
    where: tuple[Network, ...] = (),
) -> AccessKey:
    return AccessKey(
        "AKIA", Secret("s"), PRINCIPAL, is_active, expires_at, tuple(map(as_network, where))
    )


@given(st.booleans(), st.none() | moments, st.lists(networks(), max_size=4), addresses, moments)
def test_it_is_refused_for_one_reason_or_may_be_used(
    is_active: bool,
    expires_at: datetime | None,
    where: list[Network],
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    now: datetime,
) -> None:
    """A second reading: each condition by itself, in the words of the standard library."""
    refusal = key_of(is_active, expires_at, tuple(where)).refusal(str(client), now)
    seen = getattr(client, "ipv4_mapped", None) or client
    holds = {
        "access-key-inactive": is_active,
        "access-key-expired": expires_at is None or now < expires_at,
        "network-not-allowed": not where or any(seen in network for network in where),
    }
    wanted = next((reason for reason, is_so in holds.items() if not is_so), None)
    assert refusal == wanted


@given(networks(), st.data())
def test_every_address_of_its_network_may_use_it(where: Network, data: st.DataObject) -> None:
    client = data.draw(st.ip_addresses(network=where))
    if getattr(client, "ipv4_mapped", None) is None:
        assert key_of(where=(where,)).refusal(str(client), NOW) is None


@given(st.ip_addresses(v=4), st.lists(networks(), min_size=1, max_size=4))
def test_an_ipv4_client_is_the_same_on_a_socket_for_both_families(
    client: ipaddress.IPv4Address, where: list[Network]
) -> None:
    key = key_of(where=tuple(where))
    assert key.refusal(str(client), NOW) == key.refusal(f"::ffff:{client}", NOW)


@given(st.text(max_size=40), st.lists(networks(), min_size=1, max_size=4))
def test_what_is_no_address_is_in_no_network(client: str, where: list[Network]) -> None:
    try:
        ipaddress.ip_address(client)
    except ValueError:
        assert key_of(where=tuple(where)).refusal(client, NOW) == "network-not-allowed"


@given(moments, nearby, nearby, zones)
def test_once_expired_it_stays_expired_in_every_zone(
    expires_at: datetime, first: timedelta, more: timedelta, zone: timezone
) -> None:
    key = key_of(expires_at=expires_at)
    try:
        now = (expires_at + first).astimezone(zone)
        later = now + abs(more)
    except OverflowError:  # the calendar has an end
        return
    is_expired = key.refusal("192.0.2.7", now) == "access-key-expired"
    assert is_expired == (first >= timedelta(0))
    if is_expired:
        assert key.refusal("192.0.2.7", later) == "access-key-expired"
