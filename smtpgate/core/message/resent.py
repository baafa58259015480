"""Resent messages: the mailboxes of Resent-From and Resent-Sender (RFC 5322 §3.6.6).

Each time that a message is sent on, a block of these fields is added, so they may stand more
than once. Mail programs show them, and DKIM signs them: so all of them are authorized.
"""

from typing import Final

from smtpgate.core.message.author import Author, AuthorError, TooManyAuthorsError, parse_authors
from smtpgate.core.message.headers import HeaderBlock

_NAMES: Final = {b"resent-from": "Resent-From", b"resent-sender": "Resent-Sender"}
_MAX_RESENT: Final = 100


def read_resent_fields(block: HeaderBlock, *, smtputf8: bool) -> tuple[Author, ...]:
    """All their mailboxes, each once, in the order of the fields.

    Raises AuthorError naming the field.
    """
    if not block.has_any(_NAMES):
        return ()
    found: dict[Author, None] = {}
    for field in block.fields:
        name = _NAMES.get(field.name)
        if name is None:
            continue
        try:
            authors = parse_authors(field.value, smtputf8=smtputf8)
        except AuthorError as error:
            raise type(error)(f"header '{name}': {error}") from None
        if name == "Resent-Sender" and len(authors) != 1:  # RFC 5322 §3.6.6
            raise AuthorError("header 'Resent-Sender' has more than one mailbox")
        found.update(dict.fromkeys(authors))
        if len(found) > _MAX_RESENT:
            raise TooManyAuthorsError(
                f"more than {_MAX_RESENT} mailboxes in 'Resent-From' fields"
            )
    return tuple(found)
