"""Values of the directory's cache: the garbage collector neither sees nor has to free them."""

import gc
import json
import weakref
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Final

import pytest
from msgspec import Struct

from smtpgate.core.account import (
    AccessKey,
    Account,
    Principal,
    SendingLimits,
    TemporaryLimits,
)
from smtpgate.core.arn import IdentityArn
from smtpgate.core.identity import DkimKey, Identity
from smtpgate.core.policy import Caller, Policy, Request, evaluate, parse_policy
from smtpgate.core.policy.values import as_network
from smtpgate.core.secret import Secret
from smtpgate.directory.cache import Cache, CacheKey, Dependency
from smtpgate.signing.private_keys import generate_private_key, load_private_key
from tests.support.world import DELEGATE

AT: Final = datetime(2027, 1, 1, tzinfo=UTC)

OWNER: Final = "888888888888"
ARN: Final = f"arn:aws:ses:us-east-1:{OWNER}:identity/example.com"
CALLERS: Final = (
    Caller(DELEGATE, "arn:aws:iam::999999999999:user/mailer", is_root=False),
    Caller(DELEGATE, "arn:aws:iam::999999999999:root", is_root=True),
    Caller(OWNER, f"arn:aws:iam::{OWNER}:user/mailer", is_root=False),
)
CONTEXT: Final = {
    "ses:fromaddress": ("marketing+x@example.com",),
    "ses:recipients": ("a@example.net", "b@example.net"),
    "aws:username": ("mailer",),
    "aws:sourceip": ("192.0.2.7",),
}
CONDITIONS: Final = {
    "StringEquals": {"ses:FromAddress": [f"user{n}@example.com" for n in range(20)]},
    "StringLike": {"ses:FromAddress": [f"{c}*@example.com" for c in "abcdefghijklmn"]},
    "StringLikeIfExists": {"ses:FeedbackAddress": ["?ounces@*", "*a*b*", "${aws:username}@*"]},
    "StringNotEqualsIgnoreCase": {"ses:FromDisplayName": "CEO"},
    "ForAllValues:StringLike": {"ses:Recipients": ["*@example.net", "*@example.org"]},
    "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"},
    "NumericEquals": {"ses:ApiVersion": 2},
    "NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]},
    "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"},
    "Bool": {"aws:SecureTransport": True},
    "BinaryEquals": {"ses:FromDisplayName": "QQ=="},
    "Null": {"ses:FeedbackAddress": False},
}


class _Name(str):
    """A name that can be watched."""

    __slots__ = ("__weakref__",)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def a_policy(name: str, **elements: object) -> Policy:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [DELEGATE, f"arn:aws:iam::{OWNER}:user/mailer"]},
        "Action": ["ses:SendEmail", "ses:Send*"],
        "Resource": ARN,
        **elements,
    }
    document = {"Version": "2012-10-17", "Statement": [statement, statement]}
    return parse_policy(json.dumps(document), kind="identity", name=name)


def policies(name: str = "p") -> Iterator[Policy]:
    for operator, block in CONDITIONS.items():
        yield a_policy(name, Condition={operator: block})
    yield a_policy(name, Condition=CONDITIONS)
    yield a_policy(name, Effect="Deny", Condition=CONDITIONS)
    yield a_policy(name, Resource=["arn:aws:ses:*:*:identity/${aws:username}", "*"])
    yield a_policy(name, Principal={"AWS": [f"{n:012}" for n in range(30)]})
    yield a_policy(name, Principal="*", Action="*")


def decide(policy: Policy) -> None:
    for caller in CALLERS:
        evaluate(
            Request(caller, "ses:SendRawEmail", ARN, CONTEXT),
            identity_policies=[policy],
            user_policies=[],
        )


def looked_at(value: object) -> Iterator[object]:
    """The objects of a value that the collector looks at.

    A tuple is left out by the first collection after its members are.
    """
    if isinstance(value, type) or callable(value):
        return  # a part of the program
    if gc.is_tracked(value) and not isinstance(value, tuple):
        yield value
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from looked_at(getattr(value, name))
    elif isinstance(value, tuple):
        for one in value:
            yield from looked_at(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from (*looked_at(key), *looked_at(one))


def an_identity(policies: tuple[Policy, ...]) -> Identity:
    key = load_private_key(generate_private_key("ed25519"))
    raised = TemporaryLimits(100, 2.0, AT)
    return Identity(
        IdentityArn.parse(ARN),
        is_verified=True,
        policies=policies,
        dkim_keys=(DkimKey("s1", key),),
        caps={DELEGATE: SendingLimits(10, 1.0, raised)},
        paused_delegates={DELEGATE: "it bounces"},
    )


def a_key(policies: tuple[Policy, ...]) -> AccessKey:
    account = Account(DELEGATE, "Delegate", SendingLimits(-1, -1))
    arn = "arn:aws:iam::999999999999:user/mailer"
    user = Principal(account, "mailer", arn, "AIDA", policies, (("team", "a"),))
    networks = (as_network(ip_network("192.0.2.0/24")),)
    return AccessKey("AKIA", Secret("s"), user, expires_at=AT, networks=networks)


@pytest.mark.slow
def test_a_full_cache_has_no_object_that_the_collector_looks_at_beside_its_tables() -> None:
    cache = Cache(max_octets=1_000_000, max_absent=10, absent_s=60)
    for number in range(10):
        made = tuple(policies())
        name, user = f"d{number}.example", Dependency(f"{number:012}", "mailer")
        cache.put(CacheKey("identity", name), (an_identity(made),), (), 10)
        cache.put(CacheKey("key", name), a_key(made), (Dependency(f"{number:012}"), user), 10)
        cache.put(CacheKey("addresses", name), {f"x@{name}": None}, (), 10)
        cache.put_absent(CacheKey("identity", f"no.{name}"), (), 0)
    assert len(cache) == 40
    for table in (cache._entries, cache._absent, cache._depending):
        assert list(looked_at(table)) == [table]


def test_a_policy_has_no_object_that_the_collector_looks_at() -> None:
    made = tuple(policies())
    for policy in made:
        decide(policy)
    for policy in made:
        assert not list(looked_at(policy))


@pytest.mark.usefixtures("no_collector")
def test_a_policy_is_freed_without_the_collector() -> None:
    name = _Name("p")
    watched = weakref.ref(name)
    made = list(policies(name))
    list(map(decide, made))
    del name
    assert watched() is not None
    del made
    assert watched() is None
