"""Decisions about messages that nobody sends, made with the directory as the gate reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smtpgate.admin.errors import InvalidQuestionError, NotFoundError
from smtpgate.admin.session import CallerSession
from smtpgate.core.account import Principal
from smtpgate.core.arn import ArnError, IdentityArn, identity_name
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.policy import Context
from smtpgate.core.whatif.delegates import Delegate, delegates
from smtpgate.core.whatif.simulation import Simulated, SimulationResult
from smtpgate.core.whatif.trial import Trial, TrialError, TrialResult, trial_of
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.principals import DirectoryPrincipals


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewSession(CallerSession):
    """One person with questions to the directory; ``principals`` are all who could send."""

    directory: LiveDirectory
    principals: DirectoryPrincipals

    async def identities(self, names: Iterable[str]) -> Mapping[str, Sequence[Identity]]:
        """All identities of those names."""
        return {name: await self.directory.identities(name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageToTry:
    """A message as far as authorization looks at it.

    ``reverse_path`` is empty for a null reverse-path, and ``None`` for the address in From.
    What else is ``None`` is as the gate would see it now and on loopback.
    """

    authors: Sequence[Author]
    recipients: Sequence[str]
    reverse_path: str | None = None
    at: str | None = None
    source_ip: str | None = None

    def context(self) -> tuple[Context, frozenset[str]]:
        """The keys of a request context, and those that it must not have.

        Raises InvalidQuestionError.
        """
        names = {author.display_name for author in self.authors} - {None}
        if len(names) > 1:
            raise InvalidQuestionError("try mailboxes with other display names one by one")
        keys: dict[str, list[str | None]] = {
            "ses:fromaddress": [str(author.mailbox) for author in self.authors],
            "ses:fromdisplayname": [*names],
            "ses:recipients": [*self.recipients],
            "ses:feedbackaddress": [self.reverse_path],
            "aws:currenttime": [self.at],
            "aws:sourceip": [self.source_ip],
        }
        context = {key: tuple(filter(None, values)) for key, values in keys.items()}
        absent = frozenset({"ses:feedbackaddress"} if self.reverse_path == "" else ())
        return {key: values for key, values in context.items() if values}, absent


async def simulate(
    session: PreviewSession,
    account_id: str,
    user_name: str | None,
    message: MessageToTry,
    identity_arn: str | None = None,
) -> tuple[Principal, TrialResult]:
    """The gate's decision about a message of an account's user, or of its root.

    Raises NotFoundError or InvalidQuestionError.
    """
    session.must_be_allowed("Simulate", "*")
    principal = await session.principals.one(account_id, user_name)
    if principal is None:
        sender = f"{account_id}/{user_name}" if user_name else account_id
        raise NotFoundError(f"the directory has no {sender}")
    context, absent = message.context()
    try:
        trial = trial_of(principal, identity_arn, context, now=session.now(), absent=absent)
    except TrialError as error:
        raise InvalidQuestionError(str(error)) from None
    return principal, await _decided(session, trial)


async def answer(session: PreviewSession, simulated: Simulated) -> SimulationResult:
    """The decision about a request that brings no policies."""
    session.must_be_allowed("Simulate", "*")
    caller = simulated.caller
    user = None if caller.is_root else caller.arn
    principal = await session.principals.one(caller.account_id, user)
    if principal is None and simulated.user_name is not None:
        principal = await session.principals.one(caller.account_id, simulated.user_name)
    if principal is None:
        reason = f"sender: the directory has no {caller.arn}"
        return SimulationResult(simulated.id, "invalid", reasons=(reason,))
    try:
        trial = trial_of(
            principal,
            simulated.identity_arn,
            simulated.context,
            now=session.now(),
            action=simulated.action,
            absent=simulated.absent,
        )
    except TrialError as error:
        return SimulationResult(simulated.id, "invalid", reasons=error.problems)
    result = await _decided(session, trial)
    return SimulationResult(simulated.id, result.outcome, result.determining, result.reasons)


async def _decided(session: PreviewSession, trial: Trial) -> TrialResult:
    return trial.run(
        await session.identities(trial.names()),
        region=session.region,
        infer_arn=session.config.authorization.infer_arn,
    )


async def who_has_access(
    session: PreviewSession, author: Author, identity: str | None = None
) -> list[Delegate]:
    """The users that could send with a From address, and their conditions.

    ``identity`` is the ARN or the name of one, if it is about that one alone; it must cover the
    address. Raises InvalidQuestionError.
    """
    session.must_be_allowed("ListAccess", "*")
    wanted = None if identity is None else _covering(identity, author)
    known = await session.identities(names_covering(author.mailbox))
    found: list[Delegate] = []
    async for page in session.principals.pages():
        found += delegates(page, known, author, region=session.region)
    return [
        delegate
        for delegate in found
        if wanted in (None, delegate.identity.name, str(delegate.identity.arn))
    ]


def _covering(text: str, author: Author) -> str:
    """The one spelling of an identity's ARN or name that covers the From address."""
    try:
        arn = IdentityArn.parse(text) if text.startswith("arn:") else None
        name = identity_name(text) if arn is None else arn.name
    except ArnError as error:
        raise InvalidQuestionError(f"identity: {error}") from None
    if not covers(name, author.mailbox):
        raise InvalidQuestionError(f"{name} does not cover {author.mailbox}")
    return str(arn or name)
