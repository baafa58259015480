"""Amazon SES's mailbox simulator: addresses that bounce, complain or answer on purpose.

https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html

Messages to them are not sent anywhere: their outcome is in this table.
"""

from typing import Final

from msgspec import Struct

from smtpgate.core.feedback.kinds import GENERAL, SUPPRESSED
from smtpgate.core.feedback.report import ReportedRecipient, ReportKind

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
            diagnostic="x-smtpgate; the address is on the suppression list of the simulator",
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
