"""Authorizing: a message's sender as it is now, the identities it can use, and the decision.

Most messages of a sender are like an earlier one: they come from the same client, name the same
addresses, and the directory gives the same answers. Then the decision is the same too, unless a
policy asks for a fact of one message alone. So a decision is kept with the facts that it was
made of. It is used again only while each answer of the directory is the same object as before.
For every message the directory is asked whether its answers are still valid; if not, it is
asked for each of them.

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
from smtpgate.ports import Clock, DirectoryUnavailableError, SteadyDirectory, Validity
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
    """A decision, with the directory's answers for it, their validity and their size."""

    key: AccessKey
    known: Known
    authorization: Authorization
    validity: Validity | None
    octets: int


class Authorizer:
    """Authorizes messages by the directory's answers at that moment."""

    def __init__(
        self,
        *,
        hostname: str,
        region: str,
        infer_arn: bool,
        directory: SteadyDirectory,
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
        alike = _alike(message, done.submission)
        kept = self._kept.get(alike)
        if kept is not None and kept.validity and self._directory.is_valid(kept.validity):
            self._note_key(kept.key, done)
            authorization = kept.authorization
        else:
            try:
                authorization = await self._ask(message, done, alike)
            except DirectoryUnavailableError as error:
                reject("directory-unavailable", str(error))
        done.identities, done.decision = authorization.identities, authorization.decision
        return authorization

    def _note_key(self, found: AccessKey | None, done: SubmissionDone) -> AccessKey:
        """Send as the principal that the key has now; it may have been revoked since."""
        submission = done.submission
        client = submission.client
        key = usable_key(found, client.address, self._clock.now(), client.certificate)
        if key.principal is not submission.principal or key.limits != submission.key_limits:
            done.submission = submission.by_key(key)
        return key

    async def _ask(
        self, message: ReadMessage, done: SubmissionDone, alike: tuple[object, ...]
    ) -> Authorization:
        """Ask the directory; the decision that is kept if the answers are as before."""
        key_id = done.submission.client.access_key_id
        key = self._note_key(await self._directory.access_key(key_id), done)
        kept = self._kept.get(alike)
        if kept is None or not await self._is_as_before(kept, key.principal):
            return await self._decide(message, done.submission, key, alike)
        if self._kept.get(alike) is kept:
            validity = self._directory.validity_of(key, kept.known)
            self._kept[alike] = kept._replace(key=key, validity=validity)
        return kept.authorization

    async def _is_as_before(self, kept: _Kept, principal: Principal) -> bool:
        """True if the directory has the same principal and identities as for that decision."""
        if kept.key.principal is not principal:
            return False
        for name, identities in kept.known.items():
            if await self._directory.identities(name) is not identities:
                return False
        return True

    async def _decide(
        self,
        message: ReadMessage,
        submission: Submission,
        key: AccessKey,
        alike: tuple[object, ...],
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
            self._keep(alike, key, request.known, authorization)
        return authorization

    def _keep(
        self,
        alike: tuple[object, ...],
        key: AccessKey,
        known: Known,
        authorization: Authorization,
    ) -> None:
        self._forget(alike)
        octets = _octets_of(key.principal, known)
        if octets > _MAX_OCTETS_OF_ONE:
            return
        validity = self._directory.validity_of(key, known)
        self._kept[alike] = _Kept(key, known, authorization, validity, octets)
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
