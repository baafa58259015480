"""Identity policies that are generated from the options of ``policy generate``.

Lint has no findings about the document. An Allow applies if all recipients are in the named
domains, a Deny if any is. A Deny always includes subdomains, and ignores the letter case of
exact addresses and names, so that another spelling does not pass it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from smtpgate.core.address import AddressError, Mailbox, parse_domain, parse_mailbox
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.policy.attachment import MAX_POLICY_OCTETS
from smtpgate.core.policy.principals import read_principals
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import Effect, globs_of_actions
from smtpgate.core.policy.strict_json import Json, JsonObject, print_json
from smtpgate.core.policy.values import read_instant, read_network

T = TypeVar("T")
_CHECKED: Final = "ses:sendrawemail"
# Characters without a special meaning in globs, variables and quoted local parts.
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#%&'/=_`~+.\u0080-\U0010ffff-]+")
_FROM: Final = "ses:FromAddress"
_Test = tuple[str, str, list[str]]


class PolicyOptionsError(ValueError):
    """Options from which no policy can be generated, with all problems, one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """The content of a policy to generate. An empty field makes no condition.

    A From address may be one of ``from_addresses``, or one of ``tagged_addresses`` with any
    ``+tag`` or none, or in one of ``from_domains``; those and ``recipient_domains`` include
    their subdomains with ``with_subdomains``. ``principals`` are account ids and ARNs, or ``*``
    for a Deny that applies to everyone.
    """

    identity_arn: str
    principals: tuple[str, ...]
    effect: Effect = "Allow"
    actions: tuple[str, ...] = ("ses:SendRawEmail",)
    from_addresses: tuple[str, ...] = ()
    tagged_addresses: tuple[str, ...] = ()
    from_domains: tuple[str, ...] = ()
    recipient_domains: tuple[str, ...] = ()
    with_subdomains: bool = False
    display_names: tuple[str, ...] = ()
    feedback_addresses: tuple[str, ...] = ()
    source_networks: tuple[str, ...] = ()
    not_before: str | None = None
    until: str | None = None
    sid: str | None = None


def generate_policy(options: PolicyOptions) -> str:
    """The text of the policy document. Raises PolicyOptionsError."""
    reader = _Reader()
    read = reader.read(options)
    if reader.problems:
        raise PolicyOptionsError(reader.problems)
    statements = [*_statements(options, read)]
    document: JsonObject = {"Version": "2012-10-17", "Statement": [*statements]}
    text = print_json(document) + "\n"
    octets = len(text.encode())
    if octets > MAX_POLICY_OCTETS:
        limit = f"a policy may have {MAX_POLICY_OCTETS}"
        raise PolicyOptionsError(
            [f"the policy has {octets} octets, and {limit}: use fewer values"]
        )
    return text


@dataclass(frozen=True, slots=True)
class _Read:
    """The options, parsed."""

    identity: str
    exact: list[Mailbox]
    tagged: list[Mailbox]
    domains: list[str]
    recipients: list[str]
    feedback: list[Mailbox]


@dataclass(slots=True)
class _Reader:
    """Reads the options and collects their problems."""

    problems: list[str] = field(default_factory=list)

    def read(self, options: PolicyOptions) -> _Read:
        """All options."""
        identity = self._identity(options.identity_arn)
        self._check(options)
        read = _Read(
            str(identity or ""),
            self._each("From address", options.from_addresses, _plain_mailbox),
            self._each("From address", options.tagged_addresses, _untagged_mailbox),
            self._each("From domain", options.from_domains, _plain_domain),
            self._each("recipients' domain", options.recipient_domains, _plain_domain),
            self._each("feedback address", options.feedback_addresses, _plain_mailbox),
        )
        if identity is not None:
            names = [str(mailbox) for mailbox in (*read.exact, *read.tagged)]
            for name in (*names, *read.domains):
                if not _is_covered(name, identity.name):
                    self.problems.append(f"{shown(name)} is not covered by {identity.name}")
        return read

    def _identity(self, text: str) -> IdentityArn | None:
        try:
            return IdentityArn.parse(text)
        except ArnError as error:
            self.problems.append(f"identity: {error}")
            return None

    def _each(self, what: str, texts: Sequence[str], parse: Callable[[str], T]) -> list[T]:
        found: list[T] = []
        for text in texts:
            try:
                found.append(parse(text))
            except AddressError as error:
                self.problems.append(f"{what} {shown(text)}: {error}")
        return list(dict.fromkeys(found))

    def _check(self, options: PolicyOptions) -> None:
        names: list[Json] = [*options.principals]
        read_principals(
            {"AWS": names},
            "principal",
            lambda _path, message: self.problems.append(f"principal: {message}"),
            is_not=False,
        )
        if options.effect == "Allow" and "*" in options.principals:
            self.problems.append("principal: an Allow for everyone is not generated")
        if not globs_of_actions(options.actions).matches(_CHECKED):
            self.problems.append("action: submissions are checked against ses:SendRawEmail")
        if options.sid is not None and not (options.sid.isascii() and options.sid.isalnum()):
            self.problems.append(f"sid: {shown(options.sid)} must have only letters and digits")
        for network in options.source_networks:
            if read_network(network) is None:
                self.problems.append(f"source network {shown(network)}: is not a network")
        self._check_window(options.not_before, options.until)
        if not all(options.display_names):
            self.problems.append("display name: is empty")

    def _check_window(self, not_before: str | None, until: str | None) -> None:
        begin, end = (read_instant(text) if text else None for text in (not_before, until))
        for text, instant in ((not_before, begin), (until, end)):
            if text is not None and instant is None:
                self.problems.append(f"date {shown(text)}: write 2026-01-31T12:00:00Z")
        if begin is not None and end is not None and begin >= end:
            self.problems.append("the end is not after the beginning")


def _plain_mailbox(text: str) -> Mailbox:
    """An address that stands for itself in every condition. Raises AddressError."""
    mailbox = parse_mailbox(text)
    if not _PLAIN.fullmatch(mailbox.local_part) or mailbox.local_part.endswith(".+"):
        raise AddressError("has special characters; write a policy about it by hand")
    return mailbox


def _untagged_mailbox(text: str) -> Mailbox:
    mailbox = _plain_mailbox(text)
    if mailbox.without_label() is not None:
        raise AddressError("already has a tag")
    return mailbox


def _plain_domain(text: str) -> str:
    domain = parse_domain(text)
    if "." not in domain or domain.startswith("["):
        raise AddressError("is not a full domain name")
    return domain


def _is_covered(name: str, identity: str) -> bool:
    """True if an identity covers an address or a domain."""
    if "@" not in identity:
        domain = name.rpartition("@")[2]
        return domain == identity or domain.endswith(f".{identity}")
    if "@" not in name:
        return False
    bare = parse_mailbox(name).without_label()
    return identity in (name, str(bare))


def _statements(options: PolicyOptions, read: _Read) -> Iterator[JsonObject]:
    """One statement, or two for a Deny on exact addresses and on patterns of them."""
    if options.effect == "Allow":
        sources = [*_allowed_sources(options, read)]
    else:
        sources = [*_denied_sources(read)]
    conditions = [*_conditions(options, read)]
    everybody = options.principals == ("*",)
    # Without a condition on From there is one statement too.
    for number in range(max(1, len(sources))):
        statement: JsonObject = {}
        if options.sid is not None:
            statement["Sid"] = options.sid + ("Patterns" if number else "")
        statement["Effect"] = options.effect
        statement["Principal"] = "*" if everybody else {"AWS": _some(options.principals)}
        statement["Action"] = _some(options.actions)
        statement["Resource"] = read.identity
        tests = [*sources[number : number + 1], *conditions]
        if tests:
            statement["Condition"] = _block(tests)
        yield statement


def _block(tests: Sequence[_Test]) -> JsonObject:
    block: dict[str, JsonObject] = {}
    for operator, key, values in tests:
        block.setdefault(operator, {})[key] = _some(values)
    return dict(block)


def _some(values: Sequence[str]) -> Json:
    return values[0] if len(values) == 1 else list(values)


def _texts(mailboxes: Sequence[Mailbox]) -> list[str]:
    return [str(mailbox) for mailbox in mailboxes]


def _tags(mailboxes: Sequence[Mailbox]) -> list[str]:
    return [f"{mailbox.local_part}+*@{mailbox.domain}" for mailbox in mailboxes]


def _in_domains(domains: Sequence[str], *, with_subdomains: bool) -> list[str]:
    """Patterns of all addresses in domains, and in their subdomains."""
    forms = ("*@{}", "*@*.{}") if with_subdomains else ("*@{}",)
    return [form.format(domain) for domain in domains for form in forms]


def _allowed_sources(options: PolicyOptions, read: _Read) -> Iterator[_Test]:
    domains = _in_domains(read.domains, with_subdomains=options.with_subdomains)
    tagged = [
        text
        for pair in zip(_texts(read.tagged), _tags(read.tagged), strict=True)
        for text in pair
    ]
    if tagged or domains:
        values = dict.fromkeys([*_texts(read.exact), *tagged, *domains])
        yield "StringLike", _FROM, list(values)
    elif read.exact:
        yield "StringEquals", _FROM, _texts(read.exact)


def _denied_sources(read: _Read) -> Iterator[_Test]:
    exact = list(dict.fromkeys(_texts([*read.exact, *read.tagged])))
    if exact:
        yield "StringEqualsIgnoreCase", _FROM, exact
    # A label may need quotes, and a Deny must stop that spelling too.
    quoted = [f'"{mailbox.local_part}+*"@{mailbox.domain}' for mailbox in read.tagged]
    patterns = [*_tags(read.tagged), *quoted, *_in_domains(read.domains, with_subdomains=True)]
    if patterns:
        yield "StringLike", _FROM, patterns


def _conditions(options: PolicyOptions, read: _Read) -> Iterator[_Test]:
    """The conditions that are not about the From address."""
    is_deny = options.effect == "Deny"
    equals = "StringEqualsIgnoreCase" if is_deny else "StringEquals"
    if options.display_names:
        names = [name.replace("${", "${$}{") for name in options.display_names]
        yield equals, "ses:FromDisplayName", list(dict.fromkeys(names))
    if read.feedback:
        yield equals, "ses:FeedbackAddress", _texts(read.feedback)
    if read.recipients:
        wide = is_deny or options.with_subdomains
        patterns = _in_domains(read.recipients, with_subdomains=wide)
        quantity = "ForAnyValue" if is_deny else "ForAllValues"
        yield f"{quantity}:StringLike", "ses:Recipients", patterns
        if not is_deny:
            # ForAllValues also holds without any recipient.
            yield "Null", "ses:Recipients", ["false"]
    if options.source_networks:
        yield "IpAddress", "aws:SourceIp", list(options.source_networks)
    if options.not_before is not None:
        yield "DateGreaterThanEquals", "aws:CurrentTime", [options.not_before]
    if options.until is not None:
        yield "DateLessThan", "aws:CurrentTime", [options.until]
