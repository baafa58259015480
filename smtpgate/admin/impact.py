"""The effect that a policy would have had on the messages that were really sent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from smtpgate.admin.errors import NotFoundError, RefusedChangeError
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.paging import in_pages
from smtpgate.admin.preview import PreviewSession
from smtpgate.admin.session import Operator
from smtpgate.core.account import Principal
from smtpgate.core.arn import IdentityArn
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.history.story import as_seen_by
from smtpgate.core.identity import Identity
from smtpgate.core.policy import PolicyError, attachment_problems, parse_policy
from smtpgate.core.whatif.impact import Impact, ProposedPolicy, impact_of

_PAGE: Final = 200


def proposal_of(identity: IdentityArn, name: str, document: bytes) -> ProposedPolicy:
    """A policy for an identity, of that name. Raises RefusedChangeError."""
    arn = str(identity)
    try:
        policy = parse_policy(document, kind="identity", name=name)
    except PolicyError as error:
        raise RefusedChangeError("\n".join(map(str, error.problems))) from None
    problems = attachment_problems(
        policy, identity_arn=arn, source_octets=len(document), siblings=0
    )
    if problems:
        raise RefusedChangeError("\n".join(map(str, problems)))
    return ProposedPolicy(arn, policy)


async def impact(
    session: PreviewSession,
    past: JournalSession,
    proposal: ProposedPolicy,
    *,
    since: datetime | None,
) -> Impact:
    """Decide again about past messages, as if an identity had another policy.

    An account's caller learns of those messages that its account may see. Raises NotFoundError.
    """
    session.must_be_allowed("GetImpact", proposal.identity_arn)
    identity = IdentityArn.parse(proposal.identity_arn)
    known = await session.directory.identities(identity.name)
    if all(one.arn != identity for one in known):
        raise NotFoundError(f"the directory has no {identity}")
    viewer = None if isinstance(past.caller, Operator) else identity.account_id
    wanted = Search(account_id=viewer, identity=identity.name, since=since)
    lookup, total = _Lookup(session), Impact()
    async for records in in_pages(past.reader.search(wanted, past.now()), _PAGE):
        total += impact_of(
            proposal,
            records,
            principals=await lookup.principals(records),
            known=await lookup.identities(records),
            region=session.region,
            infer_arn=session.config.authorization.infer_arn,
        )
    return total if viewer is None else _seen(total, viewer)


def _seen(total: Impact, viewer: str) -> Impact:
    examples = (
        replace(change, record=as_seen_by(change.record, viewer)) for change in total.examples
    )
    return replace(total, examples=tuple(examples))


class _Lookup:
    """The directory as it is now, asked once for each thing."""

    def __init__(self, preview: PreviewSession) -> None:
        self._preview = preview
        self._known: dict[str, Sequence[Identity]] = {}

    async def principals(self, records: Sequence[Record]) -> Mapping[str, Principal]:
        """The senders by ARN, without those that were deleted."""
        found: dict[str, Principal] = {}
        for account_id, arn in {(record.account_id, record.user_arn) for record in records}:
            user = None if arn.endswith(":root") else arn
            principal = await self._preview.principals.one(account_id, user)
            if principal is not None:
                found[arn] = principal
        return found

    async def identities(self, records: Sequence[Record]) -> Mapping[str, Sequence[Identity]]:
        """Every identity of the names in the records."""
        names = {
            name for record in records for name in record.parties.names
        } - self._known.keys()
        self._known |= await self._preview.identities([*names])
        return self._known
