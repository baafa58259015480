"""May this principal send this message? Which identity serves each role, and what policies say.

The roles of a message are its source and its return path (both MAIL FROM over SMTP), each From
mailbox, and Sender when there is one. For each of them, in this order:

1. the identity whose ARN was named for the role: it must exist, be verified and cover the
   address, or the message is refused;
2. the identity that another role named, when it covers the address: From and the return path
   inherit the source's, the source inherits From's;
3. the most specific verified identity of the sender's own account that covers the address;
4. with ``infer_arn``, whichever other account's identity covers it and lets the sender pass.

Every identity so found must then allow the message, under each From mailbox. What its owner
says of an address counts also where a wider identity serves it: a Deny, a pause, a cap.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from smtpgate.core.account import Principal
from smtpgate.core.address import Mailbox
from smtpgate.core.arn import IdentityArn
from smtpgate.core.author import Author
from smtpgate.core.context import ACTION, author_context
from smtpgate.core.events import Role, UsedIdentity
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.intent import SendingIntent
from smtpgate.core.policy import Caller, Context, Decision, Outcome, Request, evaluate
from smtpgate.core.reply import Reject, reply_of

__all__ = [
    "Authorization",
    "Denial",
    "Question",
    "authorize",
    "identity_names",
    "more_specific",
]

Known = Mapping[str, Sequence[Identity]]


class Denial(Reject):
    """A refusal with what is known of its decision, for the event."""

    decision: Decision | None = None
    identities: tuple[UsedIdentity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that authorization is decided on.

    ``known`` has every identity of the names that :func:`identity_names` asked for.
    """

    principal: Principal
    intent: SendingIntent
    reverse_path: Mailbox | None
    authors: tuple[Author, ...]
    sender: Author | None
    context: Context
    known: Known
    region: str
    infer_arn: bool


@dataclass(frozen=True, slots=True)
class Authorization:
    """The message may be sent: by which identities, by what decision, signed by whose keys.

    ``signing_identity`` is the most specific verified domain of the From identity's owner that
    covers the first From mailbox; ``None`` when the owner verified the address alone.
    ``capped_by`` has each identity once whose owner's caps count: those that serve a role, and
    those of their owners that cover its address more closely.
    """

    identities: tuple[UsedIdentity, ...]
    decision: Decision
    signing_identity: Identity | None
    capped_by: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class _RoleAddress:
    role: Role
    mailbox: Mailbox
    named: IdentityArn | None
    inherited: tuple[IdentityArn, ...]


@dataclass(slots=True)
class _Judge:
    """Asks the policies, each question once."""

    question: Question
    contexts: tuple[Context, ...]
    answers: dict[tuple[str, tuple[str, ...]], Decision] = field(default_factory=dict)

    def decide(self, identity: Identity, mailbox: Mailbox) -> Decision:
        """What the policies say of the identity: the first denial, or an allow."""
        specific = tuple(more_specific(self.question.known, identity, mailbox))
        key = (str(identity.arn), tuple(other.name for other in specific))
        if key not in self.answers:
            self.answers[key] = self._ask(identity, specific)
        return self.answers[key]

    def _ask(self, identity: Identity, specific: Sequence[Identity]) -> Decision:
        principal = self.question.principal
        decision: Decision | None = None
        for context in self.contexts:
            decision = evaluate(
                Request(
                    Caller(principal.account.id, principal.arn, principal.is_root),
                    ACTION,
                    str(identity.arn),
                    {**context, "aws:resourceaccount": (identity.owner_id,)},
                ),
                identity_policies=identity.policies,
                user_policies=principal.policies,
                more_specific=[(str(other.arn), other.policies) for other in specific],
            )
            if decision.outcome is not Outcome.ALLOW:
                break
        if decision is None:
            raise ValueError("a message has at least one author")
        return decision


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

    for author in question.authors:
        yield _RoleAddress("from", author.mailbox, intent.from_arn, given(intent.source_arn))
    if question.sender is not None:
        inherited = given(intent.from_arn, intent.source_arn)
        yield _RoleAddress("sender", question.sender.mailbox, None, inherited)
    if question.reverse_path is not None:
        path = question.reverse_path
        yield _RoleAddress("source", path, intent.source_arn, given(intent.from_arn))
        inherited = given(intent.source_arn, intent.from_arn)
        yield _RoleAddress("return-path", path, intent.return_path_arn, inherited)


def identity_names(
    intent: SendingIntent,
    reverse_path: Mailbox | None,
    authors: Sequence[Author],
    sender: Author | None,
) -> set[str]:
    """The names of all identities that can matter to a message."""
    arns = (intent.source_arn, intent.from_arn, intent.return_path_arn)
    names = {arn.name for arn in arns if arn is not None}
    mailboxes = {author.mailbox for author in authors}
    if sender is not None:
        mailboxes.add(sender.mailbox)
    if reverse_path is not None:
        mailboxes.add(reverse_path)
    for mailbox in mailboxes:
        names.update(names_covering(mailbox))
    return names


def authorize(question: Question) -> Authorization:
    """Decide. Raises Denial."""
    judge = _Judge(
        question, tuple(author_context(question.context, author) for author in question.authors)
    )
    used: list[UsedIdentity] = []
    capped_by: dict[IdentityArn, Identity] = {}
    from_identity: Identity | None = None
    from_decision: Decision | None = None
    for role in _roles(question):
        try:
            identity, how = _identity_for(role, question, judge)
        except Denial as denial:
            denial.identities = tuple(used)
            raise
        used.append(UsedIdentity(role.role, role.mailbox, str(identity.arn), how))
        concerned = (identity, *more_specific(question.known, identity, role.mailbox))
        _must_not_be_paused(concerned, tuple(used))
        decision = judge.decide(identity, role.mailbox)
        if decision.outcome is not Outcome.ALLOW:
            raise _access_denied(question.principal, identity, decision, tuple(used))
        if from_identity is None:
            from_identity, from_decision = identity, decision
        capped_by.update((one.arn, one) for one in concerned)
    if from_identity is None or from_decision is None:
        raise ValueError("a message has at least one author")
    signing_identity = _signing_identity(question, from_identity.owner_id)
    return Authorization(
        tuple(used), from_decision, signing_identity, tuple(capped_by.values())
    )


def _must_not_be_paused(identities: Iterable[Identity], used: tuple[UsedIdentity, ...]) -> None:
    for one in identities:
        if one.paused_reason is not None:
            denial = Denial(
                reply_of("identity-paused", arn=one.arn), "identity-paused", one.paused_reason
            )
            denial.identities = used
            raise denial


def _signing_identity(question: Question, owner_id: str) -> Identity | None:
    for name in names_covering(question.authors[0].mailbox):
        for identity in question.known.get(name, ()):
            if identity.owner_id == owner_id and identity.is_domain and identity.is_verified:
                return identity
    return None


How = Literal["named", "inherited", "own", "inferred"]


def _identity_for(
    role: _RoleAddress, question: Question, judge: _Judge
) -> tuple[Identity, How]:
    if role.named is not None:
        if not covers(role.named.name, role.mailbox):
            raise Denial(
                reply_of("not-aligned", address=role.mailbox, arn=role.named), "not-aligned"
            )
        return _named(role.named, role, question), "named"
    for arn in role.inherited:
        if covers(arn.name, role.mailbox):
            return _named(arn, role, question), "inherited"
    own = question.principal.account.id
    others: list[Identity] = []
    for name in names_covering(role.mailbox):
        for identity in question.known.get(name, ()):
            if not identity.is_verified:
                continue
            if identity.owner_id == own:
                return identity, "own"
            others.append(identity)
    return _inferred(others, role, question, judge), "inferred"


def _named(arn: IdentityArn, role: _RoleAddress, question: Question) -> Identity:
    if arn.region not in (question.region, "*"):
        raise Denial(
            reply_of("not-verified", region=arn.region.upper(), addresses=role.mailbox),
            "wrong-region",
            f"the ARN names region {arn.region}, this gate serves {question.region}",
        )
    for identity in question.known.get(arn.name, ()):
        if identity.owner_id == arn.account_id and identity.arn.partition == arn.partition:
            if identity.is_verified:
                return identity
            break
    raise _not_verified(role, question, f"{arn} is no verified identity")


def _inferred(
    others: Sequence[Identity], role: _RoleAddress, question: Question, judge: _Judge
) -> Identity:
    """The identity of another account that lets the sender pass, though none was named.

    A refusal tells of an identity only to those whom its owner's policies name: anybody else
    does not learn that it is there.
    """
    denial: Denial | None = None
    for identity in others:
        decision = judge.decide(identity, role.mailbox)
        if decision.outcome is Outcome.ALLOW:
            if question.infer_arn:
                return identity
            raise _not_verified(
                role, question, f"name the identity {identity.arn} that lets you send"
            )
        if denial is None and _names_sender(decision):
            used = (UsedIdentity(role.role, role.mailbox, str(identity.arn), "inferred"),)
            denial = _access_denied(question.principal, identity, decision, used)
    if denial is not None:
        raise denial
    detail = f"no identity of account {question.principal.account.id} covers {role.mailbox}"
    raise _not_verified(role, question, f"{detail}; to use another's, name its ARN")


def _not_verified(role: _RoleAddress, question: Question, detail: str) -> Denial:
    region = question.region.upper()
    return Denial(
        reply_of("not-verified", region=region, addresses=role.mailbox), "not-verified", detail
    )


def _access_denied(
    principal: Principal,
    identity: Identity,
    decision: Decision,
    used: tuple[UsedIdentity, ...],
) -> Denial:
    denial = Denial(
        reply_of("access-denied", user=principal.arn, action=ACTION, resource=identity.arn),
        decision.outcome.value,
        _told(decision),
    )
    denial.decision, denial.identities = decision, used
    return denial


def _told(decision: Decision) -> str:
    """Why, for the ears of the sender.

    Whom no Allow of the owner names does not learn how its policies are called and what they
    say; a Deny is named to everybody it applies to.
    """
    miss = decision.nearest_miss
    if miss is None:
        return "; ".join(decision.reasons)
    if miss.side == "identity" and not _names_sender(decision):
        return "the identity's policies do not name you"
    return str(miss)


def _names_sender(decision: Decision) -> bool:
    """Whether an Allow of the owner names the sender, be it under conditions that fail."""
    if decision.identity_side.outcome is Outcome.ALLOW:
        return True
    miss = decision.identity_side.miss
    return miss is not None and miss.element not in ("Principal", "NotPrincipal")
