"""Reply codes (RFC 5321 §4.2) and enhanced status codes (RFC 3463) in texts."""

import re
from typing import Final

# Not in the middle of an address of a host, such as 192.0.2.5.5.1.
_STATUS: Final = re.compile(r"(?<![0-9.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9]|\.[0-9])")
# A code and what follows one, an enhanced code or a text; no year, port, or number of lines.
_REPLY: Final = re.compile(
    r"(?:(?<=[\s;:\[(<'\"=-])|\A)([245][0-5][0-9])"
    r"(?=[ -](?:#?[245]\.[0-9]|[\"'<\[(*]?[A-Za-z<:_#])|[:;][ :]|\Z|-\Z)"
)
_VAGUE: Final = re.compile(r"[245]\.0\.[0-9]+|")


def status_in(text: str) -> str:
    """The first enhanced status code in a text that is not x.0.x, else the first, or empty."""
    first = ""
    for match in _STATUS.finditer(text):
        if not _VAGUE.fullmatch(match[1]):
            return match[1]
        first = first or match[1]
    return first


def reply_in(text: str) -> str:
    """The first reply code in a text, or an empty text."""
    match = _REPLY.search(text)
    return match[1] if match else ""


def more_precise(status: str, other: str) -> str:
    """A status, or another one that says more about the same failure."""
    return other if other and _VAGUE.fullmatch(status) else status
