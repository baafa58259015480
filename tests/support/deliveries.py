"""Deliveries as tests expect most of them: answered by the upstream, or else an exception."""

from collections.abc import Sequence

from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import Answered, Body, InDoubt, NotSent
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import PooledUpstream


class DoubtError(Exception):
    """It ended in doubt; the text is the problem."""


class UnsentError(Exception):
    """It was not sent; the text is the problem, or else the reason."""


async def deliver(
    upstream: PooledUpstream,
    envelope: Envelope,
    message: Sequence[Body],
    attempt: DeliveryAttempt | None = None,
) -> Answered:
    """The upstream's answer. Raises DoubtError or UnsentError."""
    delivery = await upstream.deliver(envelope, message, attempt or DeliveryAttempt())
    match delivery:
        case Answered():
            return delivery
        case InDoubt(problem):
            raise DoubtError(problem)
        case NotSent(reason, problem):
            raise UnsentError(problem or reason)
