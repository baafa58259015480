"""Advice about a message that no statement allows, by the side that did not allow it."""

from collections.abc import Mapping
from typing import Final

RELAYING_ADVICE: Final = (
    "The message is on its way and has no verdict yet, or the gate ended before it had one. "
    "Look again in a minute; if the gate was killed, ask the operator of the upstream."
)

# By the side that did not allow the message, and the element of its closest Allow that failed.
DENIAL_ADVICE: Final[Mapping[tuple[str, str], str]] = {
    ("user", "nothing"): (
        "The administrator of the sender's account has to give the user a policy that allows "
        "ses:SendRawEmail."
    ),
    ("user", "Action"): (
        "The administrator of the sender's account has to allow ses:SendRawEmail, the action "
        "of every message that is sent by SMTP."
    ),
    ("user", "Resource"): (
        "The administrator of the sender's account has to add the identity's ARN to Resource."
    ),
    ("user", "condition"): (
        "The sender has to send only messages that its user policy allows, or the "
        "administrator of its account has to change the condition."
    ),
    ("identity", "nothing"): (
        "The identity's owner has to attach a policy that allows the sender ses:SendRawEmail."
    ),
    ("identity", "Principal"): (
        "The identity's owner has to name the sender in Principal: its account id, or the "
        "user's ARN."
    ),
    ("identity", "Action"): (
        "The identity's owner has to allow ses:SendRawEmail, the action of every message that "
        "is sent by SMTP."
    ),
    ("identity", "Resource"): (
        "The identity's owner has to write the identity's own ARN into Resource."
    ),
    ("identity", "condition"): (
        "The sender has to send only messages that meet the condition, or the identity's owner "
        "has to change it."
    ),
}


def denial_advice(side: str, element: str | None) -> str:
    """Advice about the closest Allow of a side; ``element`` is ``None`` if there is none."""
    kind = "nothing" if element is None else element.removeprefix("Not")
    return DENIAL_ADVICE.get((side, kind)) or DENIAL_ADVICE[side, "condition"]
