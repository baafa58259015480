"""Random policy documents and requests, small enough that they often meet.

Made from a seed, so that thousands cost little and each is found again by its number.
"""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from smtpgate.core.policy import Caller, PolicyKind, Request

Document = dict[str, Any]
T = TypeVar("T")

ACCOUNTS = ("888888888888", "999999999999")
IDENTITY = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
ADDRESS = "arn:aws:ses:us-east-1:888888888888:identity/a@example.com"
ADDRESSES = ("a@example.com", "a+x@example.com", "A@example.com", "b@sub.example.com")
MOMENTS = ("2026-01-31T12:00:00Z", "2026-01-31T13:30+01:30", "2026-02", "1769860800", "0")
PATTERNS = (
    "a@example.com",
    "a+*@example.com",
    "*@example.com",
    "?@*",
    "*",
    "*b*",
    "",
    "a+.*@x",
)
VARIABLES: tuple[str, ...] = (
    "${aws:username}@example.com",
    "${aws:username, 'a'}*",
    "${*}",
    "a${$}",
)
VARIABLES += ("${ses:Recipients}", "${ses:FromDisplayName}@*")
ARNS = (
    "arn:aws:iam::*:user/a",
    "arn:aws:*:user/a",
    "arn:aws:iam::999999999999:user/${aws:username}",
    "arn:aws:iam::888888888888:*",
)
STRING: tuple[str, ...] = ("StringEquals", "StringEqualsIgnoreCase", "StringLike")
STRING += ("StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike")
RELATIONS: tuple[str, ...] = ("Equals", "NotEquals", "LessThan", "LessThanEquals")
RELATIONS += ("GreaterThan", "GreaterThanEquals")
# Operators, keys and values that go together.
TESTS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]], ...] = (
    (STRING, ("ses:FromAddress", "ses:fromdisplayname", "aws:username"), PATTERNS + VARIABLES),
    (STRING, ("SES:Recipients",), PATTERNS),
    (
        tuple(f"Numeric{relation}" for relation in RELATIONS),
        ("aws:EpochTime", "aws:MultiFactorAuthAge"),
        ("0", "1769860800", 5, 5.5, "-1", "5.50"),
    ),
    (
        tuple(f"Date{relation}" for relation in RELATIONS),
        ("aws:CurrentTime", "aws:EpochTime"),
        MOMENTS,
    ),
    (("Bool",), ("aws:SecureTransport",), ("true", "False", True)),
    (
        ("IpAddress", "NotIpAddress"),
        ("aws:SourceIp",),
        (
            "192.0.2.0/24",
            "192.0.2.7",
            "2001:db8::/32",
            "0.0.0.0/0",
            "::ffff:192.0.2.0/120",
            "::ffff:10.0.0.1",
            "::/0",
        ),
    ),
    (
        ("ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEquals"),
        ("aws:PrincipalArn", "aws:SourceArn"),
        ARNS,
    ),
    (("Null",), ("ses:FromDisplayName", "ses:Recipients", "aws:username"), (True, "false")),
)
ACTIONS = ("ses:SendRawEmail", "SES:Send*", "ses:SendEmail", "*", "ses:Send???Email")
RESOURCES = (IDENTITY, ADDRESS, "*", "arn:aws:ses:*:888888888888:identity/*")
USER_RESOURCES = (*RESOURCES, "arn:aws:ses:*", f"{IDENTITY[:-11]}${{aws:username}}@example.com")
CONTEXT: dict[str, tuple[str, ...]] = {
    "ses:fromaddress": ADDRESSES,
    "ses:fromdisplayname": ("*", "a", "b*"),
    "aws:epochtime": ("1769860800", "0", "5.5", "soon"),
    "aws:currenttime": (*MOMENTS, "never"),
    "aws:multifactorauthage": ("5", "5.5", "-1"),
    "aws:securetransport": ("true", "FALSE", "maybe"),
    "aws:sourceip": ("192.0.2.7", "2001:db8::7", "10.0.0.1", "::ffff:192.0.2.7", "x"),
    "aws:sourcearn": ("arn:aws:iam::999999999999:user/a", "no ARN"),
}


class Dice:
    """Makes documents and requests; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self, choices: Sequence[T]) -> T:
        """Any of them."""
        return self._random.choice(choices)

    def chance(self, share: float) -> bool:
        """True with that probability."""
        return self._random.random() < share

    def some(self, choices: Sequence[T]) -> T | list[T]:
        """One of them, or a list of up to three."""
        if self.chance(0.5):
            return self.one(choices)
        return [self.one(choices) for _ in range(self._random.randint(1, 3))]

    def documents(self, kind: PolicyKind, most: int) -> list[Document]:
        """A number of documents."""
        return [self.document(kind) for _ in range(self._random.randint(0, most))]

    def document(self, kind: PolicyKind) -> Document:
        """One document, with any version."""
        version = self.one([{}, {"Version": "2008-10-17"}, {"Version": "2012-10-17"}])
        if self.chance(0.3):
            return {**version, "Statement": self.statement(kind)}
        count = self._random.randint(1, 3)
        return {**version, "Statement": [self.statement(kind) for _ in range(count)]}

    def statement(self, kind: PolicyKind) -> Document:
        """One statement."""
        resources = RESOURCES if kind == "identity" else USER_RESOURCES
        made: Document = {
            "Effect": self.one(["Allow", "Allow", "Deny"]),
            self._not_or_so("Action"): self.some(ACTIONS),
            self._not_or_so("Resource"): self.some(resources),
        }
        if self.chance(0.7):
            made["Condition"] = self.condition()
        if kind == "identity":
            made[self._not_or_so("Principal")] = self.principal()
        return made

    def _not_or_so(self, element: str) -> str:
        return f"Not{element}" if self.chance(0.15) else element

    def principal(self) -> object:
        """The principals of a statement."""
        if self.chance(0.3):
            return self.one(["*", {"Service": "ses.amazonaws.com"}])
        account = self.one(ACCOUNTS)
        arn = f"arn:aws:iam::{account}:"
        return {"AWS": self.some([account, f"{arn}root", f"{arn}user/a", f"{arn}user/b"])}

    def condition(self) -> Document:
        """One or two operators with one or two keys each."""
        made: Document = {}
        for _ in range(self._random.randint(1, 2)):
            operators, keys, values = self.one(TESTS)
            operator = self.one(operators)
            if operator != "Null":
                prefix = self.one(["", "", "", "ForAllValues:", "ForAnyValue:"])
                operator = prefix + operator + self.one(["", "", "IfExists"])
            made[operator] = {self.one(keys): self.some(values)}
        return made

    def request(self) -> Request:
        """A request of a user or of an account's root."""
        account, user = self.one(ACCOUNTS), self.one(["a", "a", "b", None])
        arn = f"arn:aws:iam::{account}:" + ("root" if user is None else f"user/{user}")
        context: dict[str, tuple[str, ...]] = {"aws:principalarn": (arn,)}
        if user is not None:
            context["aws:username"] = (user,)
        for key, values in CONTEXT.items():
            if self.chance(0.7):
                context[key] = (self.one(values),)
        count = self._random.randint(0, 3)
        context["ses:recipients"] = tuple(self.one(ADDRESSES) for _ in range(count))
        action = self.one(["ses:SendRawEmail", "SES:sendrawemail", "ses:SendEmail"])
        resource = self.one([IDENTITY, IDENTITY, ADDRESS])
        return Request(Caller(account, arn, user is None), action, resource, context)

    def exchange(self, document: Document, other: object) -> None:
        """Put another value in any place of the document."""
        target: Any = document
        while target:
            places = list(target) if isinstance(target, dict) else range(len(target))
            place = self.one(list(places))
            if isinstance(target[place], dict | list) and self.chance(0.7):
                target = target[place]
            else:
                target[place] = other
                return


dice = st.integers(0, 2**32).map(Dice)
_words = ["Version", "Statement", "Effect", "Principal", "Action", "Resource", "Condition"]
_words += ["StringLike", "ses:FromAddress", "AWS", "Sid", "Id"]
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(_words), st.text(max_size=8)), inner, max_size=5
        ),
    ),
    max_leaves=12,
)
