"""Sends whose outcome is not known, remembered for the client's next attempt.

AWS's SDKs try a call again at once when it fails, with the same ``amz-sdk-invocation-id``. If
the upstream had the whole message and gave no answer (RFC 1047), another attempt could deliver
it twice. So the next attempts of that call get the same error, and nothing is sent. They may
come to another worker, so that each has the doubts of all.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from smtpgate.api.notes import DoubtNoted

_REMEMBERED: Final = timedelta(minutes=15)
_MOST: Final = 10_000


def attempt_of(account_id: str, invocation_id: bytes, body_sha256: str) -> str:
    """The name that all attempts of one call have; empty if its client gives none."""
    if not invocation_id:
        return ""
    text = b"\n".join((account_id.encode(), invocation_id, body_sha256.encode()))
    return hashlib.sha256(text).hexdigest()


class Doubts:
    """The attempts that ended in doubt, of the last minutes."""

    def __init__(self, share: Callable[[DoubtNoted], Awaitable[None]] | None = None) -> None:
        """``share`` has the other workers take a note; there are none without it."""
        self._share = share
        self._ended_at: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    async def note(self, attempt: str, message_id: str, now: datetime) -> None:
        """An attempt ended in doubt about the message of that id.

        Afterwards every worker of the host knows of it, so answer the client then.
        """
        if not attempt:
            return
        note = DoubtNoted(attempt, message_id, now)
        self.take(note)
        if self._share is not None:
            await self._share(note)

    def take(self, note: DoubtNoted) -> None:
        """Take a note, of this process or of another."""
        self._ended_at[note.attempt] = note.at, note.message_id
        if len(self._ended_at) > _MOST:
            self._ended_at.popitem(last=False)

    def message_of(self, attempt: str, now: datetime) -> str | None:
        """The id of the message that an earlier attempt left in doubt, or ``None``."""
        at, message_id = self._ended_at.get(attempt, (None, None))
        if at is None or now - at > _REMEMBERED:
            return None
        return message_id
