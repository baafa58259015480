"""Completing: the message as the upstream gets it, with all fields and signatures.

Nothing else takes the event loop as long as to sign. Meanwhile the store can count the message
and write it down: so a message is completed early, while the request to the store is on its
way. What is refused then was completed for nothing. Therefore, after a refusal, messages are
completed only when they are counted, until one of them passes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple

from smtpgate.core.authorization.roles import Authorization
from smtpgate.core.identity import DkimKey
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.headers import Field, HeaderBlock
from smtpgate.core.message.reading import ReadMessage
from smtpgate.core.message.trace import complete, received_field
from smtpgate.core.reply import reject
from smtpgate.core.routing.routes import Choice
from smtpgate.core.signing import keys_for, signature_fields, takes_long_to_sign
from smtpgate.tasks import Beside, Offload

_RAW: Final = attrgetter("raw")


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


class Early(NamedTuple):
    """A message that is completed while its caller waits for something else."""

    draft: Uncompleted
    completed: Beside[Completed]


class Completer:
    """Completes messages, and signs them with the keys of the From identity's owner."""

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
        self.has_refusals = False  # the last message was not counted or not written down

    def begin(self, draft: Uncompleted) -> Early | None:
        """Complete it while the caller waits; ``None`` if it may well be refused."""
        if self.has_refusals:
            return None
        return Early(draft, Beside(self._in_a_later_turn(draft)))

    async def _in_a_later_turn(self, draft: Uncompleted) -> Completed:
        await self._offload.turns.wait()  # then the caller's request is on its way
        return await self.complete(draft)

    async def complete(self, draft: Uncompleted) -> Completed:
        """Complete the header block, and sign it.

        There are no more signatures than each upstream of the route takes. Raises Reject.
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
                signatures = await self._signatures(block, message.body, domain, keys, now)
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

    async def _signatures(
        self,
        block: HeaderBlock,
        body: Body,
        domain: str,
        keys: Sequence[DkimKey],
        now: datetime,
    ) -> tuple[Field, ...]:
        is_long = takes_long_to_sign(body)
        try:
            return await self._offload.run_next(
                is_long, signature_fields, block, body, domain, keys, now
            )
        except Exception as error:  # noqa: BLE001 - signing fails closed, whatever it was
            self._on_error(error)
            reject("signing-failed")
