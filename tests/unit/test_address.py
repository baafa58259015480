from typing import Any

import pytest

from smtpgate.core.address import (
    AddressError,
    Mailbox,
    parse_domain,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    shown_path,
)
from smtpgate.core.identity import covers
from smtpgate.core.message.envelope import network_of_client
from tests.support.cases import load_cases
from tests.support.rows import rows

GOOD = load_cases("address/10-good.toml")
BAD = load_cases("address/20-bad.toml")
PATHS = load_cases("address/30-paths.toml")
ROUTES = load_cases("address/50-routes.toml")
BAD_PATHS = load_cases("address/40-bad-paths.toml")


@rows("case", GOOD, ids=lambda case: case["note"])
def test_an_address_has_one_spelling(case: dict[str, Any]) -> None:
    assert str(parse_mailbox(case["text"])) == case["want"]


@rows("case", BAD, ids=lambda case: case["note"])
def test_what_is_ambiguous_or_malformed_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox(case["text"])
    assert case["says"] in str(caught.value)


@rows("case", GOOD, ids=lambda case: case["note"])
def test_the_printed_form_reads_back_as_the_same_mailbox(case: dict[str, Any]) -> None:
    mailbox = parse_mailbox(case["text"])
    assert parse_mailbox(str(mailbox)) == mailbox


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("<>", None),
        ("<a@example.com>", Mailbox("a", "example.com")),
        ("a@example.com", Mailbox("a", "example.com")),
    ],
)
def test_a_reverse_path_may_be_null_or_bare(text: str, want: Mailbox | None) -> None:
    assert parse_reverse_path(text) == want


@rows("case", PATHS, ids=lambda case: case["note"])
def test_paths_may_be_looser_than_other_addresses(case: dict[str, Any]) -> None:
    mailbox = parse_forward_path(case["path"])
    assert str(mailbox) == case["want"]
    assert parse_forward_path(f"<{mailbox}>") == mailbox
    if case.get("recipient_only"):
        with pytest.raises(AddressError):
            parse_reverse_path(case["path"])
    else:
        assert parse_reverse_path(case["path"]) == mailbox
    if case.get("path_only", True):
        with pytest.raises(AddressError):
            parse_mailbox(case["path"].strip("<>"))


@rows("case", ROUTES, ids=lambda case: case["path"])
def test_a_recipient_may_be_routed_elsewhere(case: dict[str, Any]) -> None:
    found = {str(one) for one in parse_forward_path(case["path"]).routes()}
    assert found == set(case["routes"])


def test_a_recipient_with_very_many_routes_is_refused() -> None:
    assert parse_forward_path("a%b%c%d!e!f@example.com").domain == "example.com"
    for text in ("a%b%c%d!e!f%g@example.com", "<a%b%c%d!e!f%g@example.com>"):
        with pytest.raises(AddressError, match="names too many routes"):
            parse_forward_path(text)


@pytest.mark.parametrize(
    "text", ["ü." * 4000 + "example", "a\u0316\u0301" * 3000 + "@a.example"]
)
def test_a_path_of_absurd_length_is_not_looked_at(text: str) -> None:
    with pytest.raises(AddressError, match="longer than 254 octets"):
        parse_forward_path(text if "@" in text else f"a@{text}")


@rows("case", BAD_PATHS, ids=lambda case: case["note"])
def test_a_path_that_cannot_be_read_is_refused_with_an_address_in_ascii(
    case: dict[str, Any],
) -> None:
    with pytest.raises(AddressError) as caught:
        parse_forward_path(case["path"])
    assert case["says"] in str(caught.value)
    assert str(caught.value).isascii()
    assert shown_path(case["path"]) == case["shown"]


@pytest.mark.parametrize(
    "text", ["<@relay.example:a@example.com>", "<<a@example.com>>", "", "< >"]
)
def test_a_path_with_a_route_or_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_reverse_path(text)
    with pytest.raises(AddressError):
        parse_forward_path(text)


def test_the_path_is_what_bounds_a_local_part() -> None:
    longest = "a" * 242 + "@example.com"
    for parse in (parse_mailbox, parse_reverse_path, parse_forward_path):
        assert parse(longest) == Mailbox("a" * 242, "example.com")
        with pytest.raises(AddressError, match="longer than 254"):
            parse("a" + longest)
    for parse in (parse_reverse_path, parse_forward_path):
        assert parse(f"<{longest}>") == Mailbox("a" * 242, "example.com")
        with pytest.raises(AddressError, match="longer than 254"):
            parse(f"<a{longest}>")


def test_a_label_is_taken_off_at_the_first_plus() -> None:
    assert parse_mailbox("user+a+b@example.com").without_label() == Mailbox(
        "user", "example.com"
    )
    assert parse_mailbox("user@example.com").without_label() is None
    assert parse_mailbox("+a@example.com").without_label() is None


def test_a_domain_of_253_octets_is_the_longest() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert parse_domain(longest) == longest
    with pytest.raises(AddressError, match="longer than 253"):
        parse_domain(longest + "d")


@rows(
    "address, counts_as",
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::g", "2001:db8::g"),
    ],
)
def test_a_host_of_ipv6_counts_as_its_network(address: str, counts_as: str) -> None:
    assert network_of_client(address) == counts_as


@rows(
    "name, is_covered",
    [
        ("example.com", True),
        ("sub.example.com", False),
        ("joe@example.com", True),
        ("jim@example.com", False),
        ("joe@example.org", False),
    ],
)
def test_an_identity_covers_its_domain_and_its_address(name: str, is_covered: bool) -> None:
    assert covers(name, Mailbox("joe", "example.com")) is is_covered
