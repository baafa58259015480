"""The decision on a message: the identity for each of its roles, and the policies' decision.

The roles of a message are each mailbox that it names as its author or sender (From, Sender,
Resent-From and Resent-Sender), and its source and its return path (both MAIL FROM over SMTP).
For each of them, in this order:

1. the identity whose ARN was named for the role: it must exist, be verified and cover the
   address, or the message is refused;
2. the identity that another role named, when it covers the address: From and the return path
   inherit the source's, the source inherits From's;
3. the most specific verified identity of the sender's own account that covers the address;
4. with ``infer_arn``, an identity of another account that covers it and allows the sender.

The policies of each identity must then allow the message. They are evaluated for each author
that it serves (``ses:FromAddress`` is that mailbox); those of an identity that serves only MAIL
FROM are evaluated for each From mailbox. The Denies and caps of a more specific identity of the
same owner count too, and the pause of any that covers the address: also of the domain of an
address, whose keys would sign the message.

If no Allow of a named identity names the sender, it gets the same refusal whether the identity
is unknown, unverified, paused or denied; only :attr:`Denial.reason` differs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.account import Principal
from smtpgate.core.address import Mailbox
from smtpgate.core.arn import IdentityArn
from smtpgate.core.authorization.context import identity_request
from smtpgate.core.events import Role, UsedIdentity
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import Context, Decision, Policy, evaluate, names_caller
from smtpgate.core.reply import MASKED_DETAIL, MASKED_REASON, Reject

Known = Mapping[str, Sequence[Identity]]
How = Literal["named", "inherited", "own", "inferred"]
_MANY_COMPARISONS: Final = 2000


class Denial(Reject):
    """A refusal with the facts known about its decision, for the event.

    ``shown`` is the refusal that the sender sees instead, if it must not see the reason.
    """

    decision: Decision | None = None
    identities: tuple[UsedIdentity, ...] = ()
    shown: Reject | None = None


class AuthorizationRequest(Struct, frozen=True, gc=False, kw_only=True):
    """All facts that authorization depends on.

    ``known`` has every identity of the names that :func:`identity_names` returned.
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


class Authorization(Struct, frozen=True, gc=False):
    """The permission to send a message: its identities, the decision, and the signer.

    ``signing_identity`` is the most specific verified domain of the From identity's owner that
    covers the first From mailbox; ``None`` if the owner verified only the address. A relay's
    report is signed for the gate's own domain, and ``may_be_unsigned``. ``capped_by`` has each
    identity whose caps count, once: those that serve a role, and those of the same owners that
    cover its address more closely.
    """

    identities: tuple[UsedIdentity, ...]
    decision: Decision
    signing_identity: Identity | None
    capped_by: tuple[Identity, ...]
    may_be_unsigned: bool = False


class _RoleAddress(Struct, frozen=True, gc=False):
    """A role and its address; ``author`` is ``None`` for roles that readers do not see."""

    role: Role
    mailbox: Mailbox
    author: Author | None
    named: IdentityArn | None
    inherited: tuple[IdentityArn | None, ...]


class _Evaluator:
    """Evaluates the policies, once for each identity and author."""

    __slots__ = ("_decisions", "request", "served")

    def __init__(self, request: AuthorizationRequest) -> None:
        self.request = request
        self.served: dict[str, list[Author]] = {}  # by the ARN of the identity
        self._decisions: dict[tuple[str, tuple[str, ...], Author], Decision] = {}

    def decide(
        self, identity: Identity, specific: Sequence[Identity], role: _RoleAddress
    ) -> Decision:
        """The decision of the policies on the identity: the first denial, or an allow.

        ``specific`` are those of the same owner that cover the role's mailbox more closely.
        """
        arn = identity.arn.text
        names = tuple([other.arn.name for other in specific]) if specific else ()
        decision: Decision | None = None
        for author in self._authors_of(identity, role):
            for shown in author.shown:
                key = (arn, names, shown)
                decision = self._decisions.get(key)
                if decision is None:
                    decision = self._decisions[key] = self._evaluate(identity, specific, shown)
                if decision.outcome != "allow":
                    return decision
        if decision is None:
            raise ValueError("a message has at least one author")
        return decision

    def _authors_of(self, identity: Identity, role: _RoleAddress) -> Sequence[Author]:
        """The authors that the identity serves, or all of From if it serves none."""
        if role.author is not None:
            return (role.author,)
        return self.served.get(identity.arn.text) or self.request.authors

    def _evaluate(
        self, identity: Identity, specific: Sequence[Identity], author: Author
    ) -> Decision:
        request, principal = self.request, self.request.principal
        return evaluate(
            identity_request(
                principal.caller, request.action, identity, author, request.context
            ),
            identity_policies=identity.policies,
            user_policies=principal.policies,
            more_specific=policies_by_arn(specific) if specific else (),
        )

    def is_named_by(self, identity: Identity) -> bool:
        """True if the sender owns the identity, or an Allow of it names the sender."""
        principal = self.request.principal
        return identity.owner_id == principal.account.id or names_caller(
            identity.policies, principal.caller, self.request.context
        )


def all_covering(known: Known, mailbox: Mailbox) -> list[Identity]:
    """The identities that cover a mailbox, verified or not, the most specific first."""
    found: list[Identity] = []
    for name in names_covering(mailbox):
        found += known.get(name, ())
    return found


def more_specific(identity: Identity, covering: Iterable[Identity]) -> list[Identity]:
    """Of those that cover a mailbox, the same owner's that do so more closely than this one."""
    found: list[Identity] = []
    name, owner_id = identity.arn.name, identity.arn.account_id
    for other in covering:
        if other.arn.name == name:
            break
        if other.is_verified and other.arn.account_id == owner_id:
            found.append(other)
    return found


def paused_identity(owner_id: str, covering: Iterable[Identity]) -> Identity | None:
    """Of those that cover a mailbox, the owner's that is paused, verified or not, if any."""
    for one in covering:
        if one.paused_reason is not None and one.arn.account_id == owner_id:
            return one
    return None


def paused_delegate(
    account_id: str, owner_id: str, covering: Iterable[Identity]
) -> Identity | None:
    """Of those that cover a mailbox, the owner's on which that delegate is paused, if any."""
    for one in covering:
        if account_id in one.paused_delegates and one.arn.account_id == owner_id:
            return one
    return None


def policies_by_arn(identities: Iterable[Identity]) -> list[tuple[str, Sequence[Policy]]]:
    """The policies of each identity, with its ARN."""
    return [(identity.arn.text, identity.policies) for identity in identities]


def _roles(request: AuthorizationRequest) -> Iterator[_RoleAddress]:
    intent, path = request.intent, request.reverse_path
    for author in request.authors:
        yield _RoleAddress(
            "from", author.mailbox, author, intent.from_arn, (intent.source_arn,)
        )
    if request.sender is not None:
        yield _shown("sender", request.sender, request)
    for author in request.resent:
        yield _shown("resent", author, request)
    if path is not None:
        yield _RoleAddress("source", path, None, intent.source_arn, (intent.from_arn,))
        inherited = (intent.source_arn, intent.from_arn)
        yield _RoleAddress("return-path", path, None, intent.return_path_arn, inherited)


def _shown(role: Role, author: Author, request: AuthorizationRequest) -> _RoleAddress:
    if author.display_name is None and not author.other_names:
        # It shows no name; programs show From's beside it.
        shown = request.authors[0]
        author = Author(shown.display_name, author.mailbox, shown.other_names)
    inherited = (request.intent.from_arn, request.intent.source_arn)
    return _RoleAddress(role, author.mailbox, author, None, inherited)


def identity_names(
    intent: SendingIntent, reverse_path: Mailbox | None, shown: Iterable[Author]
) -> set[str]:
    """The names of all identities that can matter for a message with these authors."""
    names: set[str] = set()
    for arn in (intent.source_arn, intent.from_arn, intent.return_path_arn):
        if arn is not None:
            names.add(arn.name)
    for author in shown:
        names.update(names_covering(author.mailbox))
    if reverse_path is not None:
        names.update(names_covering(reverse_path))
    return names


def takes_long(request: AuthorizationRequest) -> bool:
    """True if the decision may take more than a millisecond.

    It depends on the number of comparisons of a text with a pattern.
    """
    authors = len(request.authors) + len(request.resent) + 1
    recipients = len(request.context.get("ses:recipients", ()))
    policies = [*request.principal.policies]
    for identities in request.known.values():
        for identity in identities:
            policies += identity.policies
    comparisons = 0
    for policy in policies:
        comparisons += policy.patterns * authors + policy.recipient_patterns * recipients
    return comparisons > _MANY_COMPARISONS


def is_lasting(request: AuthorizationRequest) -> bool:
    """True if the decision is the same for every message with the same facts in the request.

    Its time and its recipients may differ: no policy asks for these.
    """
    if any(policy.asks_of_message for policy in request.principal.policies):
        return False
    return not any(
        policy.asks_of_message
        for identities in request.known.values()
        for identity in identities
        for policy in identity.policies
    )


def authorize(request: AuthorizationRequest) -> Authorization:
    """Decide on a message. Raises Denial."""
    evaluator = _Evaluator(request)
    used: list[UsedIdentity] = []
    capped_by: dict[str, Identity] = {}
    of_from: _Served | None = None
    served: _Served | None = None
    for role in _roles(request):
        try:
            if served is not None and _is_as_before(role, request):
                served = _again(served, role)
            else:
                served = _served(role, evaluator)
        except Denial as denial:
            denial.identities = (*used, *denial.identities)
            raise
        identity = served.identity
        used.append(served.used)
        if role.author is not None:
            evaluator.served.setdefault(identity.arn.text, []).append(role.author)
        if of_from is None:
            of_from = served
        for one in (identity, *served.specific):
            capped_by[one.arn.text] = one
    if of_from is None:
        raise ValueError("a message has at least one author")
    return Authorization(
        tuple(used), of_from.decision, _signing_identity(of_from), tuple(capped_by.values())
    )


class _Served(Struct, frozen=True, gc=False):
    """The identity that serves a role and allows the message.

    ``covering`` are all that cover the address, ``specific`` those of its owner that cover it
    more closely.
    """

    identity: Identity
    used: UsedIdentity
    decision: Decision
    covering: list[Identity]
    specific: list[Identity]


def _is_as_before(role: _RoleAddress, request: AuthorizationRequest) -> bool:
    """True if nothing that the decision depends on differs from the role before.

    The source comes after From. Both find the same identity if they have one mailbox, and name
    the same ARN or none; both are evaluated for the author in From if no other is shown.

    The return path has the mailbox of the source, and comes next. If it names the ARN that the
    source names, or neither names one, it also finds or inherits the same. Readers see neither,
    so both are evaluated for the same authors.
    """
    intent = request.intent
    if role.role == "return-path":
        return intent.return_path_arn == intent.source_arn
    return (
        role.role == "source"
        and intent.source_arn == intent.from_arn
        and len(request.authors) == 1
        and request.authors[0].mailbox == role.mailbox
        and request.sender is None
        and not request.resent
    )


def _again(before: _Served, role: _RoleAddress) -> _Served:
    """The same for another role."""
    used = UsedIdentity(role.role, role.mailbox, before.used.arn, before.used.how)
    return _Served(before.identity, used, before.decision, before.covering, before.specific)


def _served(role: _RoleAddress, evaluator: _Evaluator) -> _Served:
    """Find the identity for a role and evaluate its policies. Raises Denial."""
    arn, how = _arn_for(role, evaluator.request)
    covering = all_covering(evaluator.request.known, role.mailbox)
    if arn is None:
        identity, how = _unnamed(role, covering, evaluator)
        return _passed(identity, how, role, covering, evaluator)
    found = _identity_of(arn, evaluator.request)
    try:
        if found is None or not found.is_verified:
            raise _unverified(role, evaluator.request, arn, found, how)
        return _passed(found, how, role, covering, evaluator)
    except Denial as denial:
        own = arn.account_id == evaluator.request.principal.account.id
        if not own and (found is None or not evaluator.is_named_by(found)):
            denial.shown = _shown_to_strangers(evaluator.request, arn)
        raise


def _passed(
    identity: Identity,
    how: How,
    role: _RoleAddress,
    covering: list[Identity],
    evaluator: _Evaluator,
) -> _Served:
    """The identity, if it is not paused and the policies allow the message. Raises Denial."""
    used = UsedIdentity(role.role, role.mailbox, identity.arn.text, how)
    paused = paused_identity(identity.arn.account_id, covering)
    if paused is not None:
        raise _paused(paused, used)
    sender_id = evaluator.request.principal.account.id
    barred = paused_delegate(sender_id, identity.arn.account_id, covering)
    if barred is not None:
        raise _delegate_paused(barred, sender_id, used)
    specific = more_specific(identity, covering)
    decision = evaluator.decide(identity, specific, role)
    if decision.outcome != "allow":
        raise _access_denied(evaluator.request, identity, decision, used)
    return _Served(identity, used, decision, covering, specific)


def _shown_to_strangers(request: AuthorizationRequest, arn: IdentityArn) -> Reject:
    """The one refusal for a sender that no Allow names: it contains no fact of the identity."""
    asked = {"user": request.principal.arn, "action": request.action, "resource": arn}
    return Reject.of(MASKED_REASON, MASKED_DETAIL, **asked)


def _paused(paused: Identity, used: UsedIdentity) -> Denial:
    denial = Denial.of("identity-paused", paused.paused_reason or "", arn=paused.arn)
    denial.identities = (used,)
    return denial


def _delegate_paused(paused: Identity, sender_id: str, used: UsedIdentity) -> Denial:
    denial = Denial.of("delegate-paused", paused.paused_delegates[sender_id], arn=paused.arn)
    denial.identities = (used,)
    return denial


def _signing_identity(of_from: _Served) -> Identity | None:
    owner_id = of_from.identity.arn.account_id
    for one in of_from.covering:
        if one.is_verified and one.arn.account_id == owner_id and one.is_domain:
            return one
    return None


def _arn_for(
    role: _RoleAddress, request: AuthorizationRequest
) -> tuple[IdentityArn | None, How]:
    """The ARN for the role, and its source. Raises Denial.

    A refusal here depends only on the message and the configuration.
    """
    arn: IdentityArn | None = role.named
    how: How = "named"
    if arn is not None and not covers(arn.name, role.mailbox):
        raise Denial.of("not-aligned", address=role.mailbox, arn=arn)
    if arn is None:
        arn, how = _inherited(role), "inherited"
    if arn is not None and arn.region not in (request.region, "*"):
        raise Denial.of(
            "wrong-region",
            f"the ARN names region {arn.region}, this gate serves {request.region}",
            region=arn.region.upper(),
            addresses=role.mailbox,
        )
    return arn, how


def _inherited(role: _RoleAddress) -> IdentityArn | None:
    """The first ARN of another role whose identity covers the address."""
    for arn in role.inherited:
        if arn is not None and covers(arn.name, role.mailbox):
            return arn
    return None


def _identity_of(arn: IdentityArn, request: AuthorizationRequest) -> Identity | None:
    for identity in request.known.get(arn.name, ()):
        if identity.owner_id == arn.account_id and identity.arn.partition == arn.partition:
            return identity
    return None


def _unverified(
    role: _RoleAddress,
    request: AuthorizationRequest,
    arn: IdentityArn,
    found: Identity | None,
    how: How,
) -> Denial:
    denial = _not_verified(role, request, f"{arn} is no verified identity")
    if found is not None:
        denial.identities = (UsedIdentity(role.role, role.mailbox, found.arn.text, how),)
    return denial


def _unnamed(
    role: _RoleAddress, covering: Sequence[Identity], evaluator: _Evaluator
) -> tuple[Identity, How]:
    """The identity for a role without an ARN. Raises Denial."""
    own = evaluator.request.principal.account.id
    others: list[Identity] = []
    for identity in covering:
        if not identity.is_verified:
            continue
        if identity.arn.account_id == own:
            return identity, "own"
        others.append(identity)
    return _inferred(others, role, covering, evaluator), "inferred"


def _inferred(
    others: Sequence[Identity],
    role: _RoleAddress,
    covering: Sequence[Identity],
    evaluator: _Evaluator,
) -> Identity:
    """The identity of another account that allows the sender, though no ARN was named.

    A refusal names an identity only to a sender that its policies name: other senders must not
    learn that it exists.
    """
    request = evaluator.request
    denial: Denial | None = None
    for identity in others:
        used = UsedIdentity(role.role, role.mailbox, identity.arn.text, "inferred")
        specific = more_specific(identity, covering)
        decision = evaluator.decide(identity, specific, role)
        if decision.outcome == "allow":
            if request.infer_arn:
                return identity
            detail = f"name the identity {identity.arn} that lets you send"
            denial = _not_verified(role, request, detail)
            denial.identities = (used,)
            raise denial
        if denial is None and evaluator.is_named_by(identity):
            denial = _access_denied(request, identity, decision, used)
    if denial is not None:
        raise denial
    detail = f"no identity of account {request.principal.account.id} covers {role.mailbox}"
    raise _not_verified(role, request, f"{detail}; to use another's, name its ARN")


def _not_verified(role: _RoleAddress, request: AuthorizationRequest, detail: str) -> Denial:
    region = request.region.upper()
    return Denial.of("not-verified", detail, region=region, addresses=role.mailbox)


def _access_denied(
    request: AuthorizationRequest, identity: Identity, decision: Decision, used: UsedIdentity
) -> Denial:
    miss = decision.nearest_miss
    denial = Denial.of(
        decision.outcome,
        "; ".join(decision.reasons) if miss is None else str(miss),
        user=request.principal.arn,
        action=request.action,
        resource=identity.arn,
    )
    denial.decision, denial.identities = decision, (used,)
    return denial
