"""The detectors of flufl.bounce, within bounds.

They are regular expressions, some of which take quadratic time in the length of a line, and
they read a message by Python's ``email``, which has no bounds. So they never see the octets of
a stranger: they get a message that is made of the parts that the core has read, with a few
fields, short lines and little text. Then the worst input that is known takes a twentieth of a
second.
"""

import logging
from email.message import Message
from typing import Final

from flufl.bounce import all_failures

from smtpgate.core.feedback.addresses import ADDRESS, normal
from smtpgate.core.feedback.mime import MimeMessage, Part
from smtpgate.core.feedback.report import Action, ReportedRecipient

_FIELDS: Final = ("From", "To", "Subject", "X-Mailer")
_MAX_FIELD: Final = 300
_MAX_PARTS: Final = 5
_MAX_TEXT: Final = 12 * 1024
# Reports are wrapped at 80 columns or so; a diagnostic may be longer.
_MAX_LINE: Final = 160
_MAX_RECIPIENTS: Final = 100

# Each detector writes a line, and its traceback if it fails: the failure is handled here.
logging.getLogger("flufl.bounce").addHandler(logging.NullHandler())
logging.getLogger("flufl.bounce").propagate = False


def detected(message: MimeMessage) -> tuple[ReportedRecipient, ...]:
    """The recipients that a detector finds; none if no detector knows the form."""
    try:
        temporary, permanent = all_failures(_rebuilt(message))
    except Exception:  # noqa: BLE001 - a defect of a detector must not lose a report
        return ()
    found: dict[str, Action] = {}
    for octets in sorted(permanent | temporary)[:_MAX_RECIPIENTS]:
        match = ADDRESS.fullmatch(octets.decode("utf-8", "replace"))
        if match is not None:
            found[normal(match[1])] = "failed" if octets in permanent else "delayed"
    return tuple([ReportedRecipient(one, action=action) for one, action in found.items()])


def _rebuilt(message: MimeMessage) -> Message:
    """The message as Python's ``email`` has it, with a text that is bounded."""
    parts = message.parts[:_MAX_PARTS]
    if len(parts) == 1 and not message.media_type.startswith("multipart/"):
        whole = _plain(parts[0], "text/plain")
    else:
        whole = Message()
        whole["Content-Type"] = message.media_type
        for part in parts:
            whole.attach(_plain(part, "text/plain" if _is_text(part) else "application/x-part"))
    for name in _FIELDS:
        value = message.fields.first(name.lower())
        if value:
            whole[name] = value[:_MAX_FIELD].replace("\n", " ")
    return whole


def _is_text(part: Part) -> bool:
    return part.media_type == "text/plain"


def _plain(part: Part, media_type: str) -> Message:
    made = Message()
    made["Content-Type"] = media_type
    made.set_payload(_short_lines(part.text) if _is_text(part) else "")
    return made


def _short_lines(text: str) -> str:
    """Text in ASCII: lines cut, and white space in them joined but for one space in front."""
    lines = []
    for line in text[:_MAX_TEXT].split("\n"):
        words = " ".join(line[: 4 * _MAX_LINE].split())
        lines.append((" " if line[:1].isspace() else "") + words[:_MAX_LINE])
    return "\n".join(lines).encode("ascii", "replace").decode("ascii") + "\n"
