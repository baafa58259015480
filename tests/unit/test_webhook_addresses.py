import ipaddress
from typing import Final

import pytest

from smtpgate.webhooks.addresses import can_be_called, is_public
from tests.support.rows import rows

_PUBLIC: Final = [
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]
_NOT_PUBLIC: Final = [
    "",
    "localhost",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%1",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "0x7f.1",
    "2130706433",
    "127.1",
]


@rows("address", _PUBLIC, ids=repr)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)
    assert can_be_called(address)


@rows("address", _NOT_PUBLIC, ids=repr)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(address)


@rows("address", ["", "0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1"], ids=repr)
def test_an_address_of_no_host_is_never_called(address: str) -> None:
    assert not can_be_called(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1"])
def test_private_ones_can_be_called_where_that_is_allowed(address: str) -> None:
    assert can_be_called(address)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_public_that_python_calls_private(seed: int) -> None:
    for step in range(0, 1 << 32, (1 << 20) + 7 * seed + 1):
        address = ipaddress.IPv4Address(step)
        if is_public(str(address)):
            assert not address.is_private, address
