"""Amazon SES's mailbox simulator: addresses that bounce, complain or answer on purpose.

https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html

Messages to them are not sent anywhere: their outcome is in this table.
"""

from typing import Final

from msgspec import Struct

from smtpgate.core.feedback.kinds import GENERAL, SUPPRESSED
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient, ReportKind

SIMULATOR_DOMAIN: Final = "simulator.amazonses.com"


class Simulation(Struct, frozen=True, gc=False):
    """The outcome of a message to one address of the simulator.

    ``is_delivered`` is true if the message is delivered, also where something comes back later.
    Bounces of the simulator count in no rate, and put nobody on a suppression list.
    """

    kind: ReportKind
    is_delivered: bool
    recipient: ReportedRecipient = ReportedRecipient("")
    feedback_type: str = ""
    user_agent: str = ""

    def report_about(self, address: str) -> FeedbackReport:
        """The report that comes back about that address."""
        recipient = ReportedRecipient(
            address=address,
            action=self.recipient.action,
            status=self.recipient.status,
            reply=self.recipient.reply,
            diagnostic=self.recipient.diagnostic,
            kind=self.recipient.kind,
        )
        return FeedbackReport(
            kind=self.kind,
            recipients=(recipient,),
            feedback_type=self.feedback_type,
            user_agent=self.user_agent,
        )


_SUCCESS: Final = Simulation(
    "delivery",
    is_delivered=True,
    recipient=ReportedRecipient("", action="delivered", status="2.0.0", reply="250"),
)
# By local part, without a label.
SIMULATIONS: Final[dict[str, Simulation]] = {
    "success": _SUCCESS,
    "bounce": Simulation(
        "bounce",
        is_delivered=False,
        recipient=ReportedRecipient(
            "",
            action="failed",
            status="5.1.1",
            reply="550",
            diagnostic="smtp; 550 5.1.1 user unknown",
            kind=GENERAL,
        ),
    ),
    "suppressionlist": Simulation(
        "bounce",
        is_delivered=False,
        recipient=ReportedRecipient(
            "",
            action="failed",
            status="5.1.1",
            diagnostic="the address is on the suppression list of the simulator",
            kind=SUPPRESSED,
        ),
    ),
    "complaint": Simulation(
        "complaint",
        is_delivered=True,
        feedback_type="abuse",
        user_agent="Amazon SES Mailbox Simulator",
    ),
    "ooto": Simulation("answer", is_delivered=True),
}


def simulation_of(address: str, domain: str = SIMULATOR_DOMAIN) -> Simulation | None:
    """The outcome of a message to an address, or ``None`` if it is not of the simulator.

    A label is allowed, and other local parts of the domain are delivered.
    """
    local, at, of_domain = address.rpartition("@")
    if not at or of_domain.lower() != domain:
        return None
    return SIMULATIONS.get(local.partition("+")[0].lower(), _SUCCESS)
