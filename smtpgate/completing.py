"""Completing: the message as the upstream gets it, with all fields and signatures.

Nothing else takes the event loop as long as to sign. Meanwhile the store can count the message
and write it down: so a message is completed early, while the request to the store is on its
way. What is refused then was completed for nothing, and so was what is sent to nobody. After
such a message those of its account are completed only when they are counted, until one of them
passes: an account that is refused cannot cause signatures, whatever other accounts send.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from smtpgate.core.authorization.roles import Authorization
from smtpgate.core.identity import DkimKey
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.headers import Field
from smtpgate.core.message.reading import ReadMessage
from smtpgate.core.message.trace import complete, received_field
from smtpgate.core.reply import reject
from smtpgate.core.routing.routes import Choice
from smtpgate.core.signing import keys_for, signature_fields, takes_long_to_sign
from smtpgate.tasks import Offload

_RAW: Final = attrgetter("raw")
# With more accounts than that which are refused, the signatures of each are no longer few.
_MAX_ACCOUNTS: Final = 4096


class Uncompleted(NamedTuple):
    """A message that is to be completed for its route."""

    submission: Submission
    message: ReadMessage
    authorization: Authorization
    choice: Choice


class Completed(NamedTuple):
    """A message in its parts, with the domain and the selectors of its signatures."""

    content: list[Body]
    domain: str | None
    selectors: tuple[str, ...]


class Early:
    """A message that is completed while its caller waits for something else."""

    __slots__ = ("_waiter", "draft")

    def __init__(self, draft: Uncompleted, waiter: "asyncio.Future[Completed]") -> None:
        self.draft = draft
        self._waiter = waiter

    async def result(self) -> Completed:
        """Wait until it is completed; raises the error if it cannot be."""
        return await self._waiter

    def end(self) -> None:
        """Complete it no more, if that has not begun."""
        if not self._waiter.done():
            self._waiter.cancel()
        elif not self._waiter.cancelled():
            _ = self._waiter.exception()  # else asyncio reports that nobody saw it

    @property
    def has_ended(self) -> bool:
        """True if it was completed, or its caller has left."""
        return self._waiter.done()

    def take_turn(self, complete: Callable[[Uncompleted], Completed]) -> None:
        """Complete it."""
        try:
            self._waiter.set_result(complete(self.draft))
        except Exception as error:  # noqa: BLE001 - for the caller
            self._waiter.set_exception(error)


class Completer:
    """Completes messages, and signs them with the keys of the From identity's owner.

    Early ones have a line, and each a turn of the event loop: several in one turn would delay
    the answers to all other clients. Those whose callers have left take no turn.
    """

    def __init__(
        self,
        *,
        hostname: str,
        mask_client: bool,
        offload: Offload,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._hostname = hostname
        self._mask_client = mask_client
        self._offload = offload
        self._on_error = on_error
        self._line: deque[Early] = deque()
        self._refused: set[str] = set()  # accounts whose last message went no further

    def begin(self, draft: Uncompleted) -> Early | None:
        """Complete it while the caller waits; ``None`` if that may be for nothing.

        A large message is completed in a thread, and later: its caller does not wait that long.
        """
        account_id = draft.submission.principal.account.id
        if account_id in self._refused or takes_long_to_sign(draft.message.body):
            return None
        loop = asyncio.get_running_loop()
        early = Early(draft, loop.create_future())
        self._line.append(early)
        if len(self._line) == 1:
            # After this turn: what the caller asks for now is sent at its end.
            loop.call_soon(self._offload.turns.later, self._complete_next)
        return early

    def note(self, account_id: str, *, goes_on: bool) -> None:
        """Note whether the last message of an account was counted, and has recipients left."""
        if goes_on:
            self._refused.discard(account_id)
            return
        if len(self._refused) >= _MAX_ACCOUNTS:
            self._refused.clear()
        self._refused.add(account_id)

    def _complete_next(self) -> None:
        while self._line:
            early = self._line.popleft()
            if not early.has_ended:
                early.take_turn(self._complete)
                break
        if self._line:
            self._offload.turns.later(self._complete_next)

    async def complete(self, draft: Uncompleted, early: Early | None) -> Completed:
        """Complete it, unless that is done or under way. Raises Reject."""
        try:
            if early is not None and early.draft is draft:
                return await early.result()
            is_long = takes_long_to_sign(draft.message.body)
            return await self._offload.run_next(is_long, self._complete, draft)
        except Exception as error:  # noqa: BLE001 - signing fails closed, whatever it was
            self._on_error(error)
            reject("signing-failed")

    def _complete(self, draft: Uncompleted) -> Completed:
        """Complete the header block, and sign it.

        There are no more signatures than each upstream of the route takes.
        """
        submission, message, authorization, choice = draft
        hostname, message_id = self._hostname, submission.message_id
        now, identity = submission.received_at, authorization.signing_identity
        block = complete(message.block, message_id=message_id, hostname=hostname, now=now)
        domain: str | None = None
        keys: Sequence[DkimKey] = ()
        signatures: tuple[Field, ...] = ()
        if identity is not None:
            keys = keys_for(identity.dkim_keys, choice.route.max_signatures)
            if keys:
                domain = identity.name
                signatures = signature_fields(block, message.body, domain, keys, now)
        received = received_field(
            submission.client,
            hostname=hostname,
            message_id=message_id,
            now=now,
            mask_client=self._mask_client,
        )
        # The body stays where it is in memory; it is not copied into a new message.
        fields = (received, *signatures, *block.fields)
        content: list[Body] = [b"".join([*map(_RAW, fields), b"\r\n"]), message.body]
        return Completed(content, domain, tuple([key.selector for key in keys]))
