"""Recipients that the upstream refused in a part of a message, until the client tries again.

A message has one reply, and the gate keeps no copy: when the upstream takes only some of the
recipients, nothing is sent and the client gets 451. At its next try the refused ones get the
upstream's own answer at RCPT, so the client splits the message by itself and sends it to the
others (RFC 5321 §3.3: each recipient has its own reply). Without this memory one bad recipient
would delay the message for ever.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.reply import Reply

# A client that sends several messages to one recipient tries them again one after the other.
_GRACE_S: Final = 120.0
_PLACES: Final = 20_000
_PLACES_AN_ACCOUNT: Final = 2_000

_Key = tuple[ReversePath, Mailbox]


@dataclass(slots=True)
class _Refused:
    reply: Reply
    until_s: float


class RefusedRecipients:
    """The upstream's refusals of recipients, by account and reverse-path; bounded.

    ``keep_s`` is how long an answer is kept for a client that does not come back. When a place
    is needed the oldest answer of the same account goes first.
    """

    def __init__(
        self,
        keep_s: float,
        *,
        places: int = _PLACES,
        places_an_account: int = _PLACES_AN_ACCOUNT,
    ) -> None:
        self._keep_s = keep_s
        self._places = places
        self._places_an_account = places_an_account
        self._accounts: OrderedDict[str, OrderedDict[_Key, _Refused]] = OrderedDict()
        self._kept = 0

    def __len__(self) -> int:
        return self._kept

    def note(
        self,
        account_id: str,
        reverse_path: ReversePath,
        answers: Iterable[tuple[Mailbox, Reply]],
        now_s: float,
    ) -> None:
        """Keep the answers for the client's next try."""
        answers = tuple(answers)
        if not answers:  # an account without answers has no place
            return
        kept = self._accounts.setdefault(account_id, OrderedDict())
        self._accounts.move_to_end(account_id)
        for mailbox, reply in answers:
            key = (reverse_path, mailbox)
            self._kept -= kept.pop(key, None) is not None
            kept[key] = _Refused(reply, now_s + self._keep_s)
            self._kept += 1
            if len(kept) > self._places_an_account:
                kept.popitem(last=False)
                self._kept -= 1
            while self._kept > self._places:
                self._drop_oldest()

    def find(
        self, account_id: str, reverse_path: ReversePath, mailbox: Mailbox, now_s: float
    ) -> Reply | None:
        """The answer that the client gets at RCPT, or ``None``."""
        kept = self._accounts.get(account_id)
        if kept is None:
            return None
        refused = kept.get((reverse_path, mailbox))
        if refused is None:
            return None
        if refused.until_s <= now_s:
            self._drop(account_id, (reverse_path, mailbox))
            return None
        return refused.reply

    def forget_soon(
        self,
        account_id: str,
        reverse_path: ReversePath,
        mailboxes: Iterable[Mailbox],
        now_s: float,
    ) -> None:
        """The client has these answers: the upstream is tried again soon."""
        kept = self._accounts.get(account_id)
        for mailbox in mailboxes:
            refused = None if kept is None else kept.get((reverse_path, mailbox))
            if refused is not None:
                refused.until_s = min(refused.until_s, now_s + _GRACE_S)

    def _drop(self, account_id: str, key: _Key) -> None:
        kept = self._accounts[account_id]
        del kept[key]
        self._kept -= 1
        if not kept:
            del self._accounts[account_id]

    def _drop_oldest(self) -> None:
        account_id, kept = next(iter(self._accounts.items()))
        self._drop(account_id, next(iter(kept)))
