"""Bounces without a delivery status: notices in the words of the server that wrote them.

A notice is taken for one if a mail system wrote it and if it says that a message was not
delivered. Then the lines that name recipients are searched, the most certain kind first, and
the text up to the next recipient is the diagnostic. The one form with a grammar is qmail's:
https://cr.yp.to/proto/qsbmf.txt
"""

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Final, NamedTuple

from smtpgate.core.feedback.addresses import ADDRESS, address_in, addresses_in, normal, same_key
from smtpgate.core.feedback.bounds import (
    MAX_DIAGNOSTIC,
    MAX_LINE,
    MAX_LINES,
    MAX_RECIPIENTS,
    MAX_TEXT,
)
from smtpgate.core.feedback.codes import reply_in, status_in
from smtpgate.core.feedback.mime import (
    Fields,
    MimeMessage,
    decoded_words,
    split,
    without_markup,
)
from smtpgate.core.feedback.notice_words import (
    DAEMONS,
    DELAYS,
    ENDS,
    FORMS,
    LABELS,
    MAYBE_DELAYS,
    RETURNED_MARKS,
    SENTENCES,
    SUBJECTS,
)
from smtpgate.core.feedback.report import Action, ReportedRecipient

_HEADER_LINE: Final = re.compile(
    r"(?:>\s?)?(?:return-path|received|message-id|date|from|to|subject|dkim-signature|mime-version"
    r"|content-type|x-[a-z-]+|reply-to|cc|delivered-to)\s*:.*",
    re.IGNORECASE,
)
_MAX_FIELDS: Final = 4
# Marks around an address.
_NO_WORDS: Final = 8
# A transcript of a session with one server.
_MAX_SHARED: Final = 40
_MAX_SHARED_LINE: Final = 200
_TO_FIELD: Final = re.compile(
    r"^[ \t>]{0,8}(?:to|cc)[ \t]*:([^\n]{1,1000})", re.IGNORECASE | re.MULTILINE
)
_TEXT: Final = rf"(?P<address>{ADDRESS.pattern})"
# The line is about that recipient.
_AT_START: Final = re.compile(
    r"\s{0,40}(?:[*>•-]{1,4}\s{0,8})?"
    rf"(?:[<\[]{_TEXT}[>\]].*|{_TEXT.replace('address', 'other')}"
    r"(?:\s*|\s*[:,;(<\[].*|\s*\.\.\..*|\s+-.*|\s+on\s.*|\s{2,}.*))",
    re.IGNORECASE,
)
# Exim's and Sendmail's name for the address that an alias or a list replaced.
_REPLACED: Final = re.compile(
    rf"\s{{0,40}}\((?:generated|expanded) from:?\s{{0,4}}<?{_TEXT}>?\)?.*", re.IGNORECASE
)
_QUOTED_FIELD: Final = re.compile(r"\s{0,40}(?:subject|cc|sent|date)\s{0,4}:.*", re.IGNORECASE)
_LABEL: Final = re.compile(
    rf"[\s>*-]{{0,40}}(?:sent <<<\s{{1,4}})?(?:{'|'.join(LABELS)})\s{{0,8}}[:=]\s{{0,8}}.*",
    re.IGNORECASE,
)
_IN_SENTENCE: Final = re.compile(
    rf"\b(?:to|for|recipients?|address(?:es)?|user|mailbox|errors?|account)\b[:,]?\s{{1,4}}"
    rf"(?:the\s)?(?:following\s)?(?:user|address|recipients?|mailbox)?:?\s{{0,4}}[<\"'(]?{_TEXT}",
    re.IGNORECASE,
)
_NO_RECIPIENT: Final = re.compile(
    r"\b(?:from|sender|mail from|reply-to|message-id|return-path|postmaster|helpdesk|contact|"
    r"support|envelope-from|reported by|on behalf of)\b[:=]?\s{0,4}[<(]{0,2}$",
    re.IGNORECASE,
)


class Mention(NamedTuple):
    """An address in a line of the notice, and how surely it is a recipient that failed."""

    line: int
    address: str
    rank: int  # 3 subject of the line, 2 in a sentence about delivery, 1 anywhere, 0 quoted
    original: str = ""


def read_notice(message: MimeMessage) -> tuple[ReportedRecipient, ...]:
    """The recipients of a bounce in words; none if the message is no bounce."""
    text = notice_text(message)
    if not is_notice(message.fields, text):
        return ()
    lines = text.split("\n")
    failed = addresses_in(", ".join(message.fields.all("x-failed-recipients")))
    sender = {same_key(one) for one in addresses_in(" ".join(_own(message.fields)))}
    mentions = _best(_mentions(lines), failed, sender)
    action: Action = "delayed" if _is_delay(message.fields, text) else "failed"
    if not mentions:
        mentions = [
            Mention(0, address, 1) for address in failed or _of_original(message, sender)
        ]
    found: dict[str, ReportedRecipient] = {}
    for mention, following in zip_longest(mentions, mentions[1:]):
        end = max(following.line, mention.line + 1) if following else len(lines)
        own = lines[mention.line : end]
        if len(mentions) == 1:
            others = lines
        elif len(_joined(own)) > len(mention.address) + _NO_WORDS:
            others = []
        else:
            others = _shared(lines[mentions[-1].line + 1 :], mention.address)
        other = _joined(others)[: 2 * MAX_DIAGNOSTIC]
        recipient = _recipient(mention, _joined(own), other, action)
        found.setdefault(same_key(mention.address), recipient)
        if len(found) == MAX_RECIPIENTS:
            break
    return tuple(found.values())


def _shared(lines: list[str], address: str) -> list[str]:
    """Of the lines behind all recipients those about one, or all if none names it."""
    short = [line[:_MAX_SHARED_LINE] for line in lines[:_MAX_SHARED]]
    return [line for line in short if address in line] or short


def _recipient(mention: Mention, own: str, others: str, action: Action) -> ReportedRecipient:
    """A recipient, with the text that begins with it, or other text if that says nothing."""
    says_something = len(own) > len(mention.address) + _NO_WORDS
    return ReportedRecipient(
        address=mention.address,
        original=mention.original,
        action=action,
        status=status_in(own) or status_in(others),
        reply=reply_in(own) or reply_in(others),
        diagnostic=(own if says_something else others or own)[:MAX_DIAGNOSTIC],
    )


def notice_text(message: MimeMessage) -> str:
    """The text for people, up to the message that it returns."""
    plain = [part for part in message.parts if part.media_type in {"text/plain", "text"}]
    pages = [part for part in message.parts if part.media_type == "text/html"]
    texts = [part.text for part in plain[:5]]
    if not any(text.strip() for text in texts):
        texts = [without_markup(part.text[: 2 * MAX_TEXT]) for part in pages[:1]]
    return "\n".join(_cut("\n".join(texts)[:MAX_TEXT]))


def _returned_text(message: MimeMessage) -> str:
    """The text behind the notice: the message that it returns."""
    plain = [part.text for part in message.parts[:5] if part.media_type == "text/plain"]
    whole = "\n".join(plain)[:MAX_TEXT].split("\n")
    return "\n".join(whole[len(_cut("\n".join(whole))) :])


def is_of_mail_system(fields: Fields) -> bool:
    """True if a mail system wrote the message, as far as its author says."""
    author = decoded_words(fields.first("from")).lower()
    return any(one in author for one in DAEMONS) or fields.first("return-path") == "<>"


def is_notice(fields: Fields, text: str) -> bool:
    """True if a mail system says that it could not deliver a message."""
    if fields.first("x-failed-recipients"):
        return True
    subject = decoded_words(fields.first("subject")).lower()
    start = " ".join(text[:6000].lower().replace("\u2019", "'").split())
    is_daemon = is_of_mail_system(fields)
    has_subject = any(one in subject for one in SUBJECTS)
    says_so = any(one in start for one in SENTENCES)
    if subject.startswith(("re:", "fw:", "fwd:")) and not is_daemon:
        return False
    has_form = any(one in start[:1500] for one in FORMS)
    return is_daemon + has_subject + says_so + has_form >= 2


def _is_delay(fields: Fields, text: str) -> bool:
    words = " ".join(
        (decoded_words(fields.first("subject")) + " " + text[:6000]).lower().split()
    )
    if any(one in words for one in DELAYS):
        return True
    is_maybe = any(one in words for one in MAYBE_DELAYS)
    return is_maybe and not any(one in words for one in ENDS)


def _own(fields: Fields) -> Iterable[str]:
    """The fields that name who gets the report, and who sent it."""
    return (*fields.all("to"), *fields.all("delivered-to"), *fields.all("from"))


def _cut(text: str) -> list[str]:
    """The lines up to the returned message."""
    lines: list[str] = []
    in_header = 0
    for whole in text.split("\n")[:MAX_LINES]:
        line = whole[:MAX_LINE].rstrip()
        low = line.lower()
        if any(one in low for one in RETURNED_MARKS) and lines:
            break
        in_header = (
            in_header + 1 if _HEADER_LINE.fullmatch(line) else in_header * (line[:1] == "\t")
        )
        lines.append(line)
        if in_header == 3:
            del lines[-3:]
            break
    return lines


def _joined(lines: Iterable[str]) -> str:
    return " ".join(" ".join(lines).split())


def _mentions(lines: list[str]) -> list[Mention]:
    found: list[Mention] = []
    for number, line in enumerate(lines):
        if "@" not in line:
            continue
        if len(found) >= 2 * MAX_RECIPIENTS:
            break
        start = _AT_START.fullmatch(line)
        replaced = _REPLACED.fullmatch(line)
        if start is not None:
            found.append(Mention(number, address_in(start["address"] or start["other"]), 3))
        elif replaced is not None:
            address = address_in(replaced["address"])
            if found and found[-1].line == number - 1 and found[-1].rank == 3:
                found[-1] = found[-1]._replace(original=address)
            else:
                found.append(Mention(number, address, 3))
        elif _LABEL.fullmatch(line):
            rank = _label_rank(line, lines[number + 1 : number + 2])
            found.extend(
                Mention(number, one, rank) for one in addresses_in(line.partition(":")[2])
            )
        else:
            found.extend(_in_sentence(number, line))
    return found


def _label_rank(line: str, next_lines: list[str]) -> int:
    """Of a labelled address: ``To`` may be a field of the message, quoted with others."""
    if line.partition(":")[0].strip(" \t>*-").lower() != "to":
        return 3
    return 0 if any(map(_QUOTED_FIELD.fullmatch, next_lines)) else 2


def _in_sentence(number: int, line: str) -> Iterable[Mention]:
    sentences = {address_in(match["address"]) for match in _IN_SENTENCE.finditer(line)}
    for match in ADDRESS.finditer(line):
        address = normal(match[1])
        if not _NO_RECIPIENT.search(line, max(0, match.start() - 40), match.start()):
            yield Mention(number, address, 2 if address in sentences else 1)


def _best(mentions: list[Mention], failed: tuple[str, ...], sender: set[str]) -> list[Mention]:
    """The mentions that name recipients: those of the surest kind."""
    if failed:
        wanted = {same_key(one) for one in failed}
        named = [one for one in mentions if same_key(one.address) in wanted]
        return _firsts(named)
    for rank in (3, 2, 1, 0):
        ranked = [one for one in mentions if one.rank == rank]
        others = [one for one in ranked if same_key(one.address) not in sender]
        if others or (ranked and rank == 3):
            return _firsts(others or ranked)
    return []


def _firsts(mentions: list[Mention]) -> list[Mention]:
    """Of each address the first mention."""
    return list({same_key(one.address): one for one in reversed(mentions)}.values())[::-1]


def _of_original(message: MimeMessage, sender: set[str]) -> tuple[str, ...]:
    """The recipient of the returned message, if there is just one."""
    returned = [split(part.content)[0] for part in message.parts if part.is_message]
    values = [
        one for fields in returned[:1] for name in ("to", "cc") for one in fields.all(name)
    ]
    if not values:
        values = _TO_FIELD.findall(_returned_text(message))[:_MAX_FIELDS]
    found = [one for one in addresses_in(" ".join(values)) if same_key(one) not in sender]
    return tuple(found) if len({same_key(one) for one in found}) == 1 else ()
