"""The type and subtype of a bounce, from its status, its reply code and its words."""

import re
from typing import Final, NamedTuple

from smtpgate.core.feedback.kinds import (
    CONTENT_REJECTED,
    MAILBOX_FULL,
    NO_EMAIL,
    TRANSIENT,
    UNDETERMINED,
    BounceKind,
    DelayType,
)
from smtpgate.core.feedback.phrases import (
    GENERIC_PHRASES,
    PHRASES,
    STATUSES,
    SUBJECTS,
    PhraseTable,
)

_MAX_TEXT: Final = 4000
# Links and host names have words of their own, such as those of a page about spam.
_NO_WORDS: Final = re.compile(
    r"(?<!\S)\S{0,9}https?://\S{1,300}|(?<![^\s@:<])[^\s@:<]{1,200}@\S{1,200}"
    r"|(?<=[\s(\[])(?:[a-z0-9-]{1,63}\.){2,8}[a-z]{2,24}(?=[\s)\]:;,\[])"
)
_WORD: Final = re.compile(r"[a-z0-9]+")
_SPACES: Final = re.compile(r"[\s]+")
# A server that accepted RCPT knows the recipient: its "unknown user" after DATA is a filter's.
_AFTER_DATA: Final = (
    ">>> data <<< 5",
    "end of data",
    "reply to data",
    "command data",
    "final data",
    "(data)",
)
# Pieces of one phrase stand in one sentence.
_NEAR: Final = 60
# A reply's own words stand in front of more of the server's, and of links to its help.
_REPLY_LENGTH: Final = 400


class CommandsShown(NamedTuple):
    """The commands that a transcript or a diagnostic shows, with the replies to them."""

    rcpt: bool = False
    data: bool = False


_NONE_SHOWN: Final = CommandsShown()


def commands_in(text: str) -> CommandsShown:
    """The commands that a text shows."""
    words = _words(text)
    return CommandsShown("rcpt to" in words, any(mark in words for mark in _AFTER_DATA))


def classify(
    status: str,
    reply: str,
    diagnostic: str,
    text: str = "",
    shown: CommandsShown = _NONE_SHOWN,
) -> BounceKind:
    """The kind of a bounce with that status, reply code and diagnostic.

    ``text`` is written for people, about this recipient alone; ``shown`` is of all recipients.
    """
    words, more_words = _words(diagnostic), _words(text)
    kind = (
        _by_words(_reply_words(words, reply), PHRASES)
        or _by_words(words, PHRASES)
        or STATUSES.get(status)
        or _by_words(more_words, PHRASES)
        or _by_words(words, GENERIC_PHRASES)
        or SUBJECTS.get(status.rpartition(".")[0])
        or _by_words(more_words, GENERIC_PHRASES)
        or (TRANSIENT if "4" in {status[:1], reply[:1]} else UNDETERMINED)
    )
    if status == "5.2.1" and kind == NO_EMAIL and not shown.rcpt:
        return TRANSIENT  # RFC 3463 §3.3: the mailbox exists, and is disabled
    is_filter = kind == NO_EMAIL and status[:4] in {"", "5.0.", "5.2."}
    return TRANSIENT if is_filter and (shown.data or commands_in(diagnostic).data) else kind


def delay_type(status: str, reply: str, text: str) -> DelayType:
    """The type of a delay, in the words of Amazon SES."""
    kind = classify(status, reply, text)
    if kind == MAILBOX_FULL:
        return "MailboxFull"
    if kind == CONTENT_REJECTED:
        return "SpamDetected"
    if status.startswith("4.4."):
        return "TransientCommunicationFailure"
    if status.startswith("4.3."):
        return "RecipientServerError"
    return "Undetermined" if kind == UNDETERMINED else "General"


def _words(text: str) -> str:
    text = text[:_MAX_TEXT].lower().replace("\u2019", "'")
    return _SPACES.sub(" ", _NO_WORDS.sub(" ", text))


def _reply_words(words: str, reply: str) -> str:
    at = words.find(reply + " ") if reply else -1
    return words[at : at + _REPLY_LENGTH] if at >= 0 else ""


def _by_words(words: str, table: PhraseTable) -> BounceKind | None:
    if not words:
        return None
    present = {"", *_WORD.findall(words)}
    for kind, phrases in table:
        if any(one.first_word in present and _is_in(one.pieces, words) for one in phrases):
            return kind
    return None


def _is_in(pieces: tuple[str, ...], words: str) -> bool:
    first, *others = pieces
    at = words.find(first)
    while others and at >= 0 and not _follow(others, words, at + len(first)):
        at = words.find(first, at + 1)
    return at >= 0


def _follow(pieces: list[str], words: str, at: int) -> bool:
    """True if the pieces stand behind that place, each near the one before."""
    for piece in pieces:
        found = words.find(piece, at, at + _NEAR + len(piece))
        if found < 0:
            return False
        at = found + len(piece)
    return True
