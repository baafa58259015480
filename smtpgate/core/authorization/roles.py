"""May this principal send this message? Which identity serves each role, and what policies say.

The roles of a message are each mailbox that it names as its author or sender (From, Sender,
Resent-From and Resent-Sender), and its source and its return path (both MAIL FROM over SMTP).
For each of them, in this order:

1. the identity whose ARN was named for the role: it must exist, be verified and cover the
   address, or the message is refused;
2. the identity that another role named, when it covers the address: From and the return path
   inherit the source's, the source inherits From's;
3. the most specific verified identity of the sender's own account that covers the address;
4. with ``infer_arn``, whichever other account's identity covers it and lets the sender pass.

Every identity so found must then allow the message. It is asked about each author that it
serves (``ses:FromAddress`` is that mailbox); one that serves MAIL FROM alone is asked about
each From mailbox. What its owner says of an address counts also where a wider identity serves
it: a Deny, a pause, a cap.

A sender that no Allow of a named identity is about gets the same refusal whether the identity
is unknown, unverified, paused, denied or not granted; only :attr:`Denial.reason` differs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from smtpgate.core.account import Principal
from smtpgate.core.address import Mailbox
from smtpgate.core.arn import IdentityArn
from smtpgate.core.authorization.context import author_context
from smtpgate.core.events import Role, UsedIdentity
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import (
    Caller,
    Context,
    Decision,
    Outcome,
    Request,
    evaluate,
    names_caller,
)
from smtpgate.core.reply import MASKED_DETAIL, MASKED_REASON, Reject

Known = Mapping[str, Sequence[Identity]]
How = Literal["named", "inherited", "own", "inferred"]
_MANY_COMPARISONS: Final = 2000


class Denial(Reject):
    """A refusal with what is known of its decision, for the event.

    ``shown`` is the refusal that the sender sees in its place, when the sender must not learn
    more.
    """

    decision: Decision | None = None
    identities: tuple[UsedIdentity, ...] = ()
    shown: Reject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that authorization is decided on.

    ``known`` has every identity of the names that :func:`identity_names` asked for.
    """

    principal: Principal
    action: str
    intent: SendingIntent
    reverse_path: Mailbox | None
    authors: tuple[Author, ...]
    sender: Author | None
    resent: tuple[Author, ...]
    context: Context
    known: Known
    region: str
    infer_arn: bool


@dataclass(frozen=True, slots=True)
class Authorization:
    """The message may be sent: by which identities, by what decision, signed by whose keys.

    ``signing_identity`` is the most specific verified domain of the From identity's owner that
    covers the first From mailbox; ``None`` when the owner verified the address alone. A relay's
    report is signed for the gate's own domain, and ``may_be_unsigned``.
    ``capped_by`` has each identity once whose owner's caps count: those that serve a role, and
    those of their owners that cover its address more closely.
    """

    identities: tuple[UsedIdentity, ...]
    decision: Decision
    signing_identity: Identity | None
    capped_by: tuple[Identity, ...]
    may_be_unsigned: bool = False


@dataclass(frozen=True, slots=True)
class _RoleAddress:
    """A role to be served; ``author`` is ``None`` for those that readers do not see."""

    role: Role
    mailbox: Mailbox
    author: Author | None
    named: IdentityArn | None
    inherited: tuple[IdentityArn, ...]


@dataclass(slots=True)
class _Judge:
    """Asks the policies, each question once."""

    question: Question
    served: dict[IdentityArn, list[Author]] = field(default_factory=dict)
    contexts: dict[Author, Context] = field(default_factory=dict)
    answers: dict[tuple[IdentityArn, tuple[str, ...], Author], Decision] = field(
        default_factory=dict
    )

    @property
    def caller(self) -> Caller:
        """The sender, as policies see it."""
        principal = self.question.principal
        return Caller(principal.account.id, principal.arn, principal.is_root)

    def decide(self, identity: Identity, role: _RoleAddress) -> Decision:
        """What the policies say of the identity: the first denial, or an allow."""
        specific = tuple(more_specific(self.question.known, identity, role.mailbox))
        names = tuple(other.name for other in specific)
        decision: Decision | None = None
        authors = self._asked_about(identity, role)
        for shown in (one for author in authors for one in author.shown):
            key = (identity.arn, names, shown)
            decision = self.answers.get(key)
            if decision is None:
                decision = self.answers[key] = self._ask(identity, specific, shown)
            if decision.outcome is not Outcome.ALLOW:
                break
        if decision is None:
            raise ValueError("a message has at least one author")
        return decision

    def _asked_about(self, identity: Identity, role: _RoleAddress) -> Sequence[Author]:
        """The authors that the identity serves, or all of From when it serves none."""
        if role.author is not None:
            return (role.author,)
        return self.served.get(identity.arn) or self.question.authors

    def _ask(
        self, identity: Identity, specific: Sequence[Identity], author: Author
    ) -> Decision:
        context = self.contexts.get(author)
        if context is None:
            context = author_context(self.question.context, author)
            self.contexts[author] = context
        return evaluate(
            Request(
                self.caller,
                self.question.action,
                str(identity.arn),
                {**context, "aws:resourceaccount": (identity.owner_id,)},
            ),
            identity_policies=identity.policies,
            user_policies=self.question.principal.policies,
            more_specific=[(str(other.arn), other.policies) for other in specific],
        )

    def is_named_by(self, identity: Identity) -> bool:
        """True if the identity is the sender's own, or an Allow of it names the sender."""
        return identity.owner_id == self.question.principal.account.id or names_caller(
            identity.policies, self.caller, self.question.context
        )


def more_specific(known: Known, identity: Identity, mailbox: Mailbox) -> Iterator[Identity]:
    """The same owner's identities that cover the mailbox more closely than this one."""
    for name in names_covering(mailbox):
        if name == identity.name:
            return
        yield from (
            other
            for other in known.get(name, ())
            if other.owner_id == identity.owner_id and other.is_verified
        )


def _roles(question: Question) -> Iterator[_RoleAddress]:
    intent = question.intent

    def given(*arns: IdentityArn | None) -> tuple[IdentityArn, ...]:
        return tuple(arn for arn in arns if arn is not None)

    def shown(role: Role, author: Author) -> _RoleAddress:
        inherited = given(intent.from_arn, intent.source_arn)
        if author.display_name is None and not author.other_names:
            # It shows no name; programs show From's beside it.
            author = replace(question.authors[0], mailbox=author.mailbox)
        return _RoleAddress(role, author.mailbox, author, None, inherited)

    for author in question.authors:
        inherited = given(intent.source_arn)
        yield _RoleAddress("from", author.mailbox, author, intent.from_arn, inherited)
    if question.sender is not None:
        yield shown("sender", question.sender)
    for author in question.resent:
        yield shown("resent", author)
    if question.reverse_path is not None:
        path = question.reverse_path
        inherited = given(intent.from_arn)
        yield _RoleAddress("source", path, None, intent.source_arn, inherited)
        inherited = given(intent.source_arn, intent.from_arn)
        yield _RoleAddress("return-path", path, None, intent.return_path_arn, inherited)


def identity_names(
    intent: SendingIntent, reverse_path: Mailbox | None, shown: Iterable[Author]
) -> set[str]:
    """The names of all identities that can matter to a message with these authors."""
    arns = (intent.source_arn, intent.from_arn, intent.return_path_arn)
    names = {arn.name for arn in arns if arn is not None}
    mailboxes = {author.mailbox for author in shown}
    if reverse_path is not None:
        mailboxes.add(reverse_path)
    for mailbox in mailboxes:
        names.update(names_covering(mailbox))
    return names


def takes_long(question: Question) -> bool:
    """True if the decision may take more than a millisecond.

    It depends on how many texts have to be compared with a pattern.
    """
    authors = len(question.authors) + len(question.resent) + 1
    recipients = len(question.context.get("ses:recipients", ()))
    found = [one for identities in question.known.values() for one in identities]
    asked = (question.principal.policies, *(one.policies for one in found))
    comparisons = sum(
        policy.patterns * authors + policy.recipient_patterns * recipients
        for policies in asked
        for policy in policies
    )
    return comparisons > _MANY_COMPARISONS


def authorize(question: Question) -> Authorization:
    """Decide. Raises Denial."""
    judge = _Judge(question)
    used: list[UsedIdentity] = []
    capped_by: dict[IdentityArn, Identity] = {}
    from_identity: Identity | None = None
    from_decision: Decision | None = None
    for role in _roles(question):
        try:
            served = _served(role, judge)
        except Denial as denial:
            denial.identities = (*used, *denial.identities)
            raise
        identity = served.identity
        used.append(served.used)
        if role.author is not None:
            judge.served.setdefault(identity.arn, []).append(role.author)
        if from_identity is None:
            from_identity, from_decision = identity, served.decision
        capped_by.update((one.arn, one) for one in served.concerned)
    if from_identity is None or from_decision is None:
        raise ValueError("a message has at least one author")
    signing_identity = _signing_identity(question, from_identity.owner_id)
    return Authorization(
        tuple(used), from_decision, signing_identity, tuple(capped_by.values())
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """The identity that serves a role, and lets the message pass.

    ``concerned`` has those of its owner too that cover the address more closely.
    """

    identity: Identity
    used: UsedIdentity
    decision: Decision
    concerned: tuple[Identity, ...]


def _served(role: _RoleAddress, judge: _Judge) -> _Served:
    """Find the identity for a role and ask it. Raises Denial."""
    arn, how = _arn_for(role, judge.question)
    if arn is None:
        identity, how = _unnamed(role, judge)
        return _passed(identity, how, role, judge)
    found = _identity_of(arn, judge.question)
    try:
        if found is None or not found.is_verified:
            raise _unverified(role, judge.question, arn, found, how)
        return _passed(found, how, role, judge)
    except Denial as denial:
        own = arn.account_id == judge.question.principal.account.id
        if not own and (found is None or not judge.is_named_by(found)):
            denial.shown = _shown_to_strangers(judge.question, arn)
        raise


def _passed(identity: Identity, how: How, role: _RoleAddress, judge: _Judge) -> _Served:
    """The identity, when it is not paused and the policies let the message pass."""
    question = judge.question
    used = UsedIdentity(role.role, role.mailbox, str(identity.arn), how)
    concerned = (identity, *more_specific(question.known, identity, role.mailbox))
    _must_not_be_paused(concerned, used)
    decision = judge.decide(identity, role)
    if decision.outcome is not Outcome.ALLOW:
        raise _access_denied(question, identity, decision, used)
    return _Served(identity, used, decision, concerned)


def _shown_to_strangers(question: Question, arn: IdentityArn) -> Reject:
    """The one refusal for senders that no Allow names: nothing in it is of the identity."""
    asked = {"user": question.principal.arn, "action": question.action, "resource": arn}
    return Reject.of(MASKED_REASON, MASKED_DETAIL, **asked)


def _must_not_be_paused(identities: Iterable[Identity], used: UsedIdentity) -> None:
    for one in identities:
        if one.paused_reason is not None:
            denial = Denial.of("identity-paused", one.paused_reason, arn=one.arn)
            denial.identities = (used,)
            raise denial


def _signing_identity(question: Question, owner_id: str) -> Identity | None:
    for name in names_covering(question.authors[0].mailbox):
        for identity in question.known.get(name, ()):
            if identity.owner_id == owner_id and identity.is_domain and identity.is_verified:
                return identity
    return None


def _arn_for(role: _RoleAddress, question: Question) -> tuple[IdentityArn | None, How]:
    """The ARN that was given for the role, and how. Raises Denial.

    What is refused here depends on the message and the configuration alone.
    """
    arn: IdentityArn | None = role.named
    how: How = "named"
    if arn is not None and not covers(arn.name, role.mailbox):
        raise Denial.of("not-aligned", address=role.mailbox, arn=arn)
    if arn is None:
        covering = (one for one in role.inherited if covers(one.name, role.mailbox))
        arn, how = next(covering, None), "inherited"
    if arn is not None and arn.region not in (question.region, "*"):
        raise Denial.of(
            "wrong-region",
            f"the ARN names region {arn.region}, this gate serves {question.region}",
            region=arn.region.upper(),
            addresses=role.mailbox,
        )
    return arn, how


def _identity_of(arn: IdentityArn, question: Question) -> Identity | None:
    for identity in question.known.get(arn.name, ()):
        if identity.owner_id == arn.account_id and identity.arn.partition == arn.partition:
            return identity
    return None


def _unverified(
    role: _RoleAddress, question: Question, arn: IdentityArn, found: Identity | None, how: How
) -> Denial:
    denial = _not_verified(role, question, f"{arn} is no verified identity")
    if found is not None:
        denial.identities = (UsedIdentity(role.role, role.mailbox, str(found.arn), how),)
    return denial


def _unnamed(role: _RoleAddress, judge: _Judge) -> tuple[Identity, How]:
    """The identity for a role that no ARN was given for. Raises Denial."""
    own = judge.question.principal.account.id
    others: list[Identity] = []
    for name in names_covering(role.mailbox):
        for identity in judge.question.known.get(name, ()):
            if not identity.is_verified:
                continue
            if identity.owner_id == own:
                return identity, "own"
            others.append(identity)
    return _inferred(others, role, judge), "inferred"


def _inferred(others: Sequence[Identity], role: _RoleAddress, judge: _Judge) -> Identity:
    """The identity of another account that lets the sender pass, though none was named.

    A refusal mentions an identity only to a sender that its policies name: anybody else does
    not learn that it exists.
    """
    question = judge.question
    denial: Denial | None = None
    for identity in others:
        used = UsedIdentity(role.role, role.mailbox, str(identity.arn), "inferred")
        decision = judge.decide(identity, role)
        if decision.outcome is Outcome.ALLOW:
            if question.infer_arn:
                return identity
            detail = f"name the identity {identity.arn} that lets you send"
            denial = _not_verified(role, question, detail)
            denial.identities = (used,)
            raise denial
        if denial is None and judge.is_named_by(identity):
            denial = _access_denied(question, identity, decision, used)
    if denial is not None:
        raise denial
    detail = f"no identity of account {question.principal.account.id} covers {role.mailbox}"
    raise _not_verified(role, question, f"{detail}; to use another's, name its ARN")


def _not_verified(role: _RoleAddress, question: Question, detail: str) -> Denial:
    region = question.region.upper()
    return Denial.of("not-verified", detail, region=region, addresses=role.mailbox)


def _access_denied(
    question: Question, identity: Identity, decision: Decision, used: UsedIdentity
) -> Denial:
    miss = decision.nearest_miss
    denial = Denial.of(
        decision.outcome.value,
        "; ".join(decision.reasons) if miss is None else str(miss),
        user=question.principal.arn,
        action=question.action,
        resource=identity.arn,
    )
    denial.decision, denial.identities = decision, (used,)
    return denial
