"""Authorizing: a message's sender as it is now, the identities it can use, and the decision.

Most messages of a sender are like an earlier one: they come from the same client, name the same
addresses, and the directory gives the same answers. Then the decision is the same too, unless a
policy asks for a fact of one message alone. So a decision is kept with the facts that it was
made of. The directory is asked for every message, and a decision is used again only while each
answer is the same object as before.

A decision that is kept keeps these answers in memory, also when the directory has forgotten
them. So the size of the answers is bounded too.
"""

from typing import Final, NamedTuple

from smtpgate.core.account import AccessKey, Principal, usable_key
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.reports import (
    authorize_message,
    report_names,
    report_recipients,
)
from smtpgate.core.authorization.roles import (
    Authorization,
    AuthorizationRequest,
    Known,
    identity_names,
    is_lasting,
    takes_long,
)
from smtpgate.core.events import SubmissionDone
from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.reading import ReadMessage
from smtpgate.core.reply import reject
from smtpgate.ports import Clock, Directory, DirectoryUnavailableError
from smtpgate.tasks import Offload

# Each is a request to the directory; a message has a few.
_MAX_DOMAINS: Final = 100
_MAX_KEPT: Final = 512
# Octets of policies as text: in memory they take twelve times as many. An identity with its
# keys counts as some more. So one decision with its answers is freed in under a millisecond.
_MAX_OCTETS: Final = 2 * 1024 * 1024
_MAX_OCTETS_OF_ONE: Final = 128 * 1024
_IDENTITY_OCTETS: Final = 2_000


class _Kept(NamedTuple):
    """A decision, with the directory's answers for it and their size."""

    principal: Principal
    known: Known
    authorization: Authorization
    octets: int


class Authorizer:
    """Authorizes messages by the directory's answers at that moment."""

    def __init__(
        self,
        *,
        hostname: str,
        region: str,
        infer_arn: bool,
        directory: Directory,
        clock: Clock,
        offload: Offload,
    ) -> None:
        self._hostname = hostname
        self._region = region
        self._infer_arn = infer_arn
        self._directory = directory
        self._clock = clock
        self._offload = offload
        self._kept: dict[tuple[object, ...], _Kept] = {}
        self._octets = 0  # of all that are kept

    def __len__(self) -> int:
        return len(self._kept)

    async def authorize(self, message: ReadMessage, done: SubmissionDone) -> Authorization:
        """Find the identity of each role, and evaluate the policies of both sides.

        Raises Reject.
        """
        try:
            key = await self._directory.access_key(done.submission.client.access_key_id)
            submission = done.submission = self._as_of_now(done.submission, key)
            alike = _alike(message, submission)
            kept = self._kept.get(alike)
            if kept is not None and await self._is_as_before(kept, submission.principal):
                authorization = kept.authorization
            else:
                authorization = await self._decide(message, submission, alike)
        except DirectoryUnavailableError as error:
            reject("directory-unavailable", str(error))
        done.identities, done.decision = authorization.identities, authorization.decision
        return authorization

    def _as_of_now(self, submission: Submission, found: AccessKey | None) -> Submission:
        """The submission with its principal as it is now: a key may have been revoked since."""
        client = submission.client
        key = usable_key(found, client.address, self._clock.now(), client.certificate)
        if key.principal is submission.principal and key.limits == submission.key_limits:
            return submission
        return submission.by_key(key)

    async def _is_as_before(self, kept: _Kept, principal: Principal) -> bool:
        """True if the directory has the same principal and identities as for that decision."""
        if kept.principal is not principal:
            return False
        for name, identities in kept.known.items():
            if await self._directory.identities(name) is not identities:
                return False
        return True

    async def _decide(
        self, message: ReadMessage, submission: Submission, alike: tuple[object, ...]
    ) -> Authorization:
        envelope = submission.envelope
        reverse_path = envelope.reverse_path.mailbox
        names = identity_names(message.intent, reverse_path, message.shown)
        report = report_recipients(message, reverse_path, envelope.mailboxes)
        if report:
            names |= report_names(report, self._hostname)
        if len(names) > _MAX_DOMAINS and sum("@" not in name for name in names) > _MAX_DOMAINS:
            problem = (
                f"its mailboxes have more than {_MAX_DOMAINS} domains with those above them"
            )
            reject("too-many-authors", problem=problem)
        request = AuthorizationRequest(
            principal=submission.principal,
            action=submission.action,
            intent=message.intent,
            reverse_path=reverse_path,
            authors=message.authors,
            sender=message.sender,
            resent=message.resent,
            context=submission_context(submission, self._region, message.intent.tags),
            known={name: await self._directory.identities(name) for name in names},
            region=self._region,
            infer_arn=self._infer_arn,
        )
        authorization = await self._offload.run_next(
            takes_long(request), authorize_message, request, report, self._hostname
        )
        if not report and is_lasting(request):
            self._keep(alike, request, authorization)
        return authorization

    def _keep(
        self,
        alike: tuple[object, ...],
        request: AuthorizationRequest,
        authorization: Authorization,
    ) -> None:
        self._forget(alike)
        principal, known = request.principal, request.known
        octets = _octets_of(principal, known)
        if octets > _MAX_OCTETS_OF_ONE:
            return
        self._kept[alike] = _Kept(principal, known, authorization, octets)
        self._octets += octets
        while len(self._kept) > _MAX_KEPT or self._octets > _MAX_OCTETS:
            self._forget(next(iter(self._kept)))

    def _forget(self, alike: tuple[object, ...]) -> None:
        kept = self._kept.pop(alike, None)
        if kept is not None:
            self._octets -= kept.octets


def _octets_of(principal: Principal, known: Known) -> int:
    """The size of the directory's answers, in octets of policies."""
    identities = [one for found in known.values() for one in found]
    policies = [*principal.policies, *(policy for one in identities for policy in one.policies)]
    return _IDENTITY_OCTETS * len(identities) + sum(policy.octets for policy in policies)


def _alike(message: ReadMessage, submission: Submission) -> tuple[object, ...]:
    """The facts of a decision, without the directory's and those of one message alone."""
    client = submission.client
    return (
        client.access_key_id,
        client.address,
        client.is_tls,
        submission.action,
        submission.envelope.reverse_path,
        message.intent,
        message.authors,
        message.sender,
        message.resent,
    )
