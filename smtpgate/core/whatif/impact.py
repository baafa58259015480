"""Impact: the changes that a proposed policy would have made for messages of the past.

Each recorded request is decided twice by the engine that decides on mail: with the directory as
it is now, and with the proposed policy in it. The time, the client, the envelope, From, Sender,
Resent-From and the named identities are from the record. The sender with its policies, tags and
organization, and the identities with their policies, are as they are now.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from msgspec import structs

from smtpgate.core.account import Principal
from smtpgate.core.address import ReversePath
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.reports import authorize_message
from smtpgate.core.authorization.roles import AuthorizationRequest, Denial, Known
from smtpgate.core.history.record import Record
from smtpgate.core.identity import Identity
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Envelope, Submission
from smtpgate.core.policy import Policy

ALLOWED: Final = "allowed"
K = TypeVar("K")

_EXAMPLES: Final = 20
_RECIPIENTS: Final = "ses:recipients"


@dataclass(frozen=True, slots=True)
class ProposedPolicy:
    """A policy for an identity, in place of its policy of the same name."""

    identity_arn: str
    policy: Policy

    def put_into(self, known: Known) -> Known:
        """The identities with the policy in its place."""
        return {name: tuple(map(self._changed, found)) for name, found in known.items()}

    def _changed(self, identity: Identity) -> Identity:
        if str(identity.arn) != self.identity_arn:
            return identity
        others = [policy for policy in identity.policies if policy.name != self.policy.name]
        return structs.replace(identity, policies=(*others, self.policy))


@dataclass(frozen=True, slots=True)
class ChangedDecision:
    """A request that would be decided differently; verdicts are ``allowed`` or a reason code.

    ``as_now`` is with the directory as it is, ``as_proposed`` with the policy.
    """

    record: Record
    as_now: str
    as_proposed: str

    @property
    def is_newly_allowed(self) -> bool:
        """True if it would be allowed, and is refused now."""
        return self.as_proposed == ALLOWED

    @property
    def sender(self) -> "Sender":
        """The sender, and the From address."""
        return self.record.user_arn, str(self.record.authors[0].mailbox)


Sender = tuple[str, str]
"""A user's ARN, and the first From address."""


@dataclass(frozen=True, slots=True)
class Impact:
    """The changes among the requests that were decided again; two impacts can be added up.

    ``newly_allowed`` and ``newly_refused`` count by sender, ``examples`` are some of each.
    ``unclear`` counts requests that cannot be decided again, by reason: ``sender-gone`` or
    ``recipients-not-kept``. ``drifted`` counts those that today's directory decides differently
    than the directory of their time, without the proposal.
    """

    looked_at: int = 0
    newly_allowed: Mapping[Sender, int] = field(default_factory=dict)
    newly_refused: Mapping[Sender, int] = field(default_factory=dict)
    examples: tuple[ChangedDecision, ...] = ()
    unclear: Mapping[str, int] = field(default_factory=dict)
    drifted: int = 0

    def __add__(self, other: "Impact") -> "Impact":
        return Impact(
            self.looked_at + other.looked_at,
            _added(self.newly_allowed, other.newly_allowed),
            _added(self.newly_refused, other.newly_refused),
            _some((*self.examples, *other.examples)),
            _added(self.unclear, other.unclear),
            self.drifted + other.drifted,
        )


def _added(one: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    return dict(Counter(one) + Counter(other))


def _some(changes: Sequence[ChangedDecision]) -> tuple[ChangedDecision, ...]:
    """The first few of each kind."""
    allowed = [change for change in changes if change.is_newly_allowed][:_EXAMPLES]
    refused = [change for change in changes if not change.is_newly_allowed][:_EXAMPLES]
    return (*allowed, *refused)


def impact_of(
    proposal: ProposedPolicy,
    records: Iterable[Record],
    *,
    principals: Mapping[str, Principal],
    known: Known,
    region: str,
    infer_arn: bool,
) -> Impact:
    """Decide all records again, except those that were refused before any policy.

    ``principals`` are by ARN, ``known`` has every identity of the names in the records.
    """
    proposed = proposal.put_into(known)
    looked_at = drifted = 0
    unclear: Counter[str] = Counter()
    changes: list[ChangedDecision] = []
    for record in records:
        if not record.authors:
            continue
        looked_at += 1
        principal = principals.get(record.user_arn)
        if principal is None:
            unclear["sender-gone"] += 1
            continue
        if record.forward_paths is None and _may_ask(record, principal, proposed, known):
            unclear["recipients-not-kept"] += 1
            continue
        as_now, as_proposed = (
            _decided(_request(record, principal, one, region, infer_arn), record)
            for one in (known, proposed)
        )
        drifted += _was_allowed(record) is not (as_now == ALLOWED)
        if (as_now == ALLOWED) is not (as_proposed == ALLOWED):
            changes.append(ChangedDecision(record, as_now, as_proposed))
    return Impact(
        looked_at,
        Counter(change.sender for change in changes if change.is_newly_allowed),
        Counter(change.sender for change in changes if not change.is_newly_allowed),
        _some(changes),
        unclear,
        drifted,
    )


def _may_ask(record: Record, principal: Principal, *kinds: Known) -> bool:
    """True if a policy that could matter for the record tests its recipients."""
    identities = (
        identity
        for known in kinds
        for name in record.parties.names
        for identity in known.get(name, ())
    )
    policies = [*principal.policies, *(p for one in identities for p in one.policies)]
    return any(map(_asks_for_recipients, policies))


def _asks_for_recipients(policy: Policy) -> bool:
    return any(
        condition.key.lower() == _RECIPIENTS
        or f"{{{_RECIPIENTS}" in str(condition.values).lower()
        for statement in policy.statements
        for condition in statement.conditions
    )


def _request(
    record: Record, principal: Principal, known: Known, region: str, infer_arn: bool
) -> AuthorizationRequest:
    """The recorded request, by the sender as it is now."""
    submission = Submission(
        message_id=record.id,
        principal=principal,
        client=record.client,
        action=SEND_RAW_EMAIL,
        envelope=Envelope.of(ReversePath(record.reverse_path), record.forward_paths or ()),
        message=b"",
        received_at=record.received_at,
    )
    return AuthorizationRequest(
        principal=principal,
        action=submission.action,
        intent=record.intent,
        reverse_path=record.reverse_path,
        authors=record.authors,
        sender=record.sender,
        resent=record.resent,
        context=submission_context(submission, region, record.intent.tags),
        known=known,
        region=region,
        infer_arn=infer_arn,
    )


def _decided(request: AuthorizationRequest, record: Record) -> str:
    # Where a report is signed does not matter here, so the gate's name does not.
    report = [used.address for used in record.identities if used.role == "report"]
    try:
        authorize_message(request, report, hostname="")
    except Denial as denial:
        return denial.reason
    return ALLOWED


def _was_allowed(record: Record) -> bool:
    """True if policies allowed it at that time, with any outcome afterwards."""
    return record.decision is not None and record.decision.outcome == "allow"
