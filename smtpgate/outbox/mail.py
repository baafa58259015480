"""Mail of the gate itself: reports to return paths, through the upstream like all mail.

It has a null reverse-path, so that no report follows from it, and is signed by the gate's own
domain where that has a key. Nothing counts it, and in the pool's line it comes last.
"""

from collections.abc import Callable, Mapping
from typing import Final

from smtpgate.core.address import AddressError, ReversePath, parse_forward_path
from smtpgate.core.authorization.reports import gate_domains, gate_identity
from smtpgate.core.identity import Identity
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.message.headers import HeaderBlock
from smtpgate.core.outbox.answer import answer_of
from smtpgate.core.outbox.report import report_of
from smtpgate.core.outbox.task import (
    Carried,
    DestinationForm,
    GivenUp,
    LeasedTask,
    Result,
    Task,
    TryAgain,
)
from smtpgate.core.signing import signature_fields
from smtpgate.core.upstream import LACKING, Answered, Delivery, InDoubt, NotSent
from smtpgate.ports import (
    Clock,
    DeliveryAttempt,
    Directory,
    DirectoryUnavailableError,
    Upstream,
)

Compose = Callable[[Task, str], tuple[HeaderBlock, bytes]]
"""The header block and the body of a task's mail, from a gate of that name."""
_COMPOSERS: Final[Mapping[DestinationForm, Compose]] = {"": report_of, "answer": answer_of}
_NULL: Final = ReversePath(None)
_NEEDS: Final = frozenset(LACKING.values())


class MailCarrier:
    """Implements the Carrier port by the upstream.

    ``notification`` composes what is no report: the mail of a subscription.
    """

    def __init__(
        self,
        upstream: Upstream,
        directory: Directory,
        hostname: str,
        *,
        clock: Clock,
        on_error: Callable[[BaseException], None],
        notification: Compose | None = None,
    ) -> None:
        self._upstream = upstream
        self._directory = directory
        self._hostname = hostname
        self._clock = clock
        self._on_error = on_error
        self._notification = notification

    async def carry(self, leased: LeasedTask) -> Result:
        """Send the mail; the upstream's verdict is the result."""
        task = leased.task
        compose = _COMPOSERS.get(task.destination.form, self._notification)
        if compose is None:
            return TryAgain("this gate sends no such mail")
        try:
            recipient = parse_forward_path(f"<{task.destination.name}>")
        except AddressError as error:
            return GivenUp(str(error))
        block, body = compose(task, self._hostname)
        message = await self._signed(block, body)
        is_utf8 = not task.destination.name.isascii()
        envelope = Envelope.of(
            _NULL,
            [recipient],
            smtputf8=is_utf8,
            body_8bit=any(not one.isascii() for one in message),
        )
        return _result(await self._upstream.deliver(envelope, message, DeliveryAttempt()))

    async def _signed(self, block: HeaderBlock, body: bytes) -> list[bytes]:
        """The message; without a signature where the gate's domain has no key."""
        signer = await self._signer()
        if signer is not None:
            try:
                now, keys = self._clock.now(), signer.dkim_keys
                fields = signature_fields(block, body, domain=signer.name, keys=keys, now=now)
                block = block.with_first(*fields)
            except Exception as error:  # noqa: BLE001 - a report without a signature is better
                self._on_error(error)
        return [b"".join([*block.raw_parts, b"\r\n"]), body]

    async def _signer(self) -> Identity | None:
        try:
            names = gate_domains(self._hostname)
            known = {name: await self._directory.identities(name) for name in names}
        except DirectoryUnavailableError:
            return None  # a report without a signature is better than none
        return gate_identity(known, self._hostname)


def _result(delivery: Delivery) -> Result:
    match delivery:
        case Answered(reply=reply) if delivery.is_accepted:
            return Carried(str(reply))
        case Answered(reply=reply) if reply.is_permanent:
            return GivenUp(str(reply))
        case Answered(reply=reply):
            return TryAgain(str(reply))
        case InDoubt(problem):
            return TryAgain(problem)  # twice is better than never
        case NotSent(reason, problem) if reason in _NEEDS:
            return GivenUp(problem or reason)
        case NotSent(reason, problem):
            return TryAgain(problem or reason)
