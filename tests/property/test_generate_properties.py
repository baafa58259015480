"""A generated policy means what was wished: that is allowed, its neighbours are not."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.policy import (
    Caller,
    Outcome,
    Request,
    attachment_problems,
    evaluate,
    lint_policy,
    parse_policy,
)
from smtpgate.core.policy.generate import PolicyOptions, generate_policy
from tests.support.world import DELEGATE

IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
MAY = parse_policy(
    '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}',
    kind="user",
    name="may",
)
ALL = parse_policy(
    '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}',
    kind="identity",
    name="all",
)
LOCAL_PARTS = st.sampled_from(["news", "a.b", "o'neil", "x_y", "grüne", "Sales", "1"])
ADDRESSES = st.builds(
    "{}@{}".format, LOCAL_PARTS, st.sampled_from(["example.com", "sub.example.com"])
)


def some(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, max_size=3, unique=True).map(tuple)


OPTIONS = st.builds(
    PolicyOptions,
    identity_arn=st.just(IDENTITY),
    principals=st.sampled_from(
        [(DELEGATE,), ("arn:aws:iam::999999999999:user/mailer", "777777777777")]
    ),
    from_addresses=some(ADDRESSES),
    tagged_addresses=some(ADDRESSES),
    from_domains=some(st.sampled_from(["example.com", "sub.example.com"])),
    recipient_domains=some(st.sampled_from(["example.net", "Example.ORG"])),
    with_subdomains=st.booleans(),
    display_names=some(st.sampled_from(["Marketing", "A * B", "${aws:username}", "Müller"])),
    feedback_addresses=some(ADDRESSES),
    source_networks=some(st.sampled_from(["192.0.2.0/24", "2001:db8::/32"])),
    not_before=st.sampled_from([None, "2026-01-01T00:00Z"]),
    until=st.sampled_from([None, "2027-01-01T00:00:00Z"]),
    sid=st.sampled_from([None, "Wish"]),
)


def outcome(
    options: PolicyOptions, context: dict[str, tuple[str, ...]], account: str
) -> Outcome:
    policy = parse_policy(generate_policy(options), kind="identity", name="generated")
    caller = Caller(account, f"arn:aws:iam::{account}:user/mailer", is_root=False)
    request = Request(caller, "ses:SendRawEmail", IDENTITY, context)
    policies = [policy] if options.effect == "Allow" else [policy, ALL]
    return evaluate(request, identity_policies=policies, user_policies=[MAY]).outcome


def sources(options: PolicyOptions) -> list[str]:
    """From addresses that are wished for; any when nothing is said of them."""
    found = [*options.from_addresses, *options.tagged_addresses]
    found += (address.replace("@", "+tag@") for address in options.tagged_addresses)
    found += (f"any.body+x@{domain}" for domain in options.from_domains)
    if options.with_subdomains:
        found += (f"anybody@a.b.{domain}" for domain in options.from_domains)
    return found or ["whoever@example.com"]


def wished_context(options: PolicyOptions, source: str) -> dict[str, tuple[str, ...]]:
    recipients = [f"jane@{domain.lower()}" for domain in options.recipient_domains]
    if options.with_subdomains:
        recipients += (f"jane@x.{domain.lower()}" for domain in options.recipient_domains)
    network = next(iter(options.source_networks), "192.0.2.0/24")
    return {
        "ses:fromaddress": (source,),
        "ses:recipients": tuple(recipients or ["joe@example.edu"]),
        "ses:fromdisplayname": (next(iter(options.display_names), "Anybody"),),
        "ses:feedbackaddress": (next(iter(options.feedback_addresses), "any@example.com"),),
        "aws:sourceip": ("192.0.2.9" if "." in network else "2001:db8::9",),
        "aws:currenttime": ("2026-06-01T12:00:00Z",),
        "aws:username": ("mailer",),
    }


def other_sources(options: PolicyOptions) -> list[str]:
    """From addresses beside those that the options name, when they name some."""
    if not (options.from_addresses or options.tagged_addresses or options.from_domains):
        return []
    found = ["news@example.org", "a.b@example.org", "news@example.com.example.org"]
    if not options.from_domains:
        found.append("other@example.com")
        found += (address.replace("@", "x@") for address in options.tagged_addresses)
        if not options.tagged_addresses:
            found.append(options.from_addresses[0].replace("@", "+t@"))
    return found


def neighbours(options: PolicyOptions) -> list[tuple[str, str]]:
    """Keys and values that nobody wished for."""
    found = [("ses:fromaddress", source) for source in other_sources(options)]
    if options.recipient_domains:
        found.append(("ses:recipients", "jane@example.com"))
        found.append(("ses:recipients", "jane@notexample.net"))
    if options.display_names:
        found += (("ses:fromdisplayname", name) for name in ("mailer", "A x B", "Marketing "))
    if options.feedback_addresses:
        found.append(("ses:feedbackaddress", "bounces@example.org"))
    if options.source_networks:
        found.append(("aws:sourceip", "203.0.113.1"))
    if options.not_before:
        found.append(("aws:currenttime", "2025-12-31T23:59:59Z"))
    if options.until:
        found.append(("aws:currenttime", "2027-01-01T00:00:00Z"))
    return found


@given(OPTIONS)
def test_what_was_wished_is_allowed(options: PolicyOptions) -> None:
    for source in sources(options):
        assert outcome(options, wished_context(options, source), DELEGATE) == "allow"


@given(OPTIONS)
def test_neighbours_of_what_was_wished_are_not_allowed(options: PolicyOptions) -> None:
    context = wished_context(options, sources(options)[0])
    assert outcome(options, context, "666666666666") == "implicit-deny"
    for key, value in neighbours(options):
        other = {**context, key: (value,)}
        assert outcome(options, other, DELEGATE) == "implicit-deny", (key, value)
    if options.recipient_domains:
        mixed = (*context["ses:recipients"], "jane@example.com")
        assert outcome(options, {**context, "ses:recipients": mixed}, DELEGATE) != "allow"
        assert outcome(options, {**context, "ses:recipients": ()}, DELEGATE) != "allow"


@given(OPTIONS)
def test_a_deny_stops_what_was_wished_and_not_its_neighbours(options: PolicyOptions) -> None:
    deny = replace(options, effect="Deny")
    for source in (text.swapcase() if "+" not in text else text for text in sources(options)):
        if "@A." in source or options.from_domains:
            continue
        local_part, _, domain = source.partition("@")
        context = wished_context(options, f"{local_part}@{domain.lower()}")
        assert outcome(deny, context, DELEGATE) == "explicit-deny"
    context = wished_context(options, sources(options)[0])
    assert outcome(deny, context, DELEGATE) == "explicit-deny"
    assert outcome(deny, context, "666666666666") == "allow"
    for key, value in neighbours(options):
        other = {**context, key: (value,)}
        assert outcome(deny, other, DELEGATE) == "allow", (key, value)
    if options.recipient_domains:
        mixed = (*context["ses:recipients"], "jane@example.com")
        other = {**context, "ses:recipients": mixed}
        assert outcome(deny, other, DELEGATE) == "explicit-deny"


@given(OPTIONS, st.sampled_from(["Allow", "Deny"]))
def test_what_is_generated_lints_clean_and_can_be_attached(
    options: PolicyOptions, effect: str
) -> None:
    options = replace(options, effect="Deny" if effect == "Deny" else "Allow")
    text = generate_policy(options)
    assert generate_policy(options) == text
    policy = parse_policy(text, kind="identity", name="generated")
    codes = {finding.code for finding in lint_policy(policy, source=text)}
    if options.effect == "Deny":  # no pattern ignores letter case
        expected = {"letter-case-escapes"} if options.tagged_addresses else set()
    else:
        expected = set() if options.with_subdomains else {"subdomains-not-covered"}
    assert codes <= expected
    octets = len(text.encode())
    assert not attachment_problems(
        policy, identity_arn=IDENTITY, source_octets=octets, siblings=0
    )
    assert json.loads(text)["Version"] == "2012-10-17"
