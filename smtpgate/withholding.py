"""Recipients that a message is not sent to, although it is accepted for them.

A message of the API whose template could not be rendered is sent to none; that is an event.

Others are addresses on a suppression list, which bounce, and addresses of the mailbox
simulator, which do what their name says. Both are found once the recipients are counted, as
Amazon SES counts them, and before anything is signed or relayed. The client gets the same
reply in all cases, so it does not tell a list's addresses from others.
"""

from smtpgate.core.events import SubmissionDone
from smtpgate.core.feedback.simulator import simulation_of
from smtpgate.core.identity import Identity
from smtpgate.core.suppression.withheld import Withheld
from smtpgate.ports import SuppressionLists
from smtpgate.publishing import EventPublisher


class Withholding:
    """Finds these recipients, by the lists and settings of the directory."""

    def __init__(
        self, lists: SuppressionLists, publisher: EventPublisher | None, simulator: str
    ) -> None:
        """``simulator`` is the domain of the mailbox simulator; empty if there is none."""
        self._lists = lists
        self._publisher = publisher
        self._simulator = simulator

    def concerns(self, done: SubmissionDone, identity: Identity | None) -> bool:
        """False if no recipient can be withheld, as for most messages.

        ``identity`` serves From. It is asked for each message, and waits for nothing.
        """
        if self._asks_lists(done, identity) or done.submission.unrendered is not None:
            return True
        simulator = self._simulator
        for one in done.submission.envelope.recipients:
            if one.mailbox.domain == simulator:
                return bool(simulator)
        return False

    def _asks_lists(self, done: SubmissionDone, identity: Identity | None) -> bool:
        return done.submission.principal.account.has_suppressed or (
            identity is not None and identity.suppresses_delegates
        )

    async def find(
        self, done: SubmissionDone, identity: Identity | None
    ) -> tuple[Withheld, ...]:
        """The recipients to withhold, in their order. Raises DirectoryUnavailableError."""
        unrendered = done.submission.unrendered
        if unrendered is not None:
            mailboxes = done.submission.envelope.mailboxes
            return tuple(Withheld(one, unrendered=unrendered) for one in mailboxes)
        found: dict[str, Withheld] = {}
        others = []
        for mailbox in done.submission.envelope.mailboxes:
            simulation = (
                simulation_of(mailbox.text, self._simulator) if self._simulator else None
            )
            if simulation is None:
                others.append(mailbox)
            else:
                found[mailbox.text] = Withheld(mailbox, simulation)
        if others and self._asks_lists(done, identity):
            suppressed = await self._lists.suppressed(
                done.submission.principal.account,
                await self._configuration_set(done),
                identity,
                others,
            )
            found |= {mailbox.text: Withheld(mailbox) for mailbox in suppressed}
        mailboxes = done.submission.envelope.mailboxes
        return tuple(found[one.text] for one in mailboxes if one.text in found)

    async def _configuration_set(self, done: SubmissionDone) -> str:
        """The configuration set of a message, which may have other reasons than its account."""
        if self._publisher is not None:
            return (await self._publisher.mail(done)).configuration_set
        return "" if done.intent is None else done.intent.configuration_set
