"""The upstream of mail that the gate itself sends: that of the configuration in use."""

from collections import Counter
from collections.abc import Sequence

from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import Delivery
from smtpgate.ports import DeliveryAttempt, Upstream


class UpstreamSwitch:
    """Stands for another upstream, the newest. Implements Upstream.

    A delivery ends at the upstream at which it began.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.newest = upstream
        self.in_flight: Counter[int] = Counter()  # deliveries, by the id of their upstream

    async def deliver(
        self, envelope: Envelope, message: Sequence[Body], attempt: DeliveryAttempt
    ) -> Delivery:
        """Carry out one mail transaction."""
        upstream = self.newest
        self.in_flight[id(upstream)] += 1
        try:
            return await upstream.deliver(envelope, message, attempt)
        finally:
            self.in_flight[id(upstream)] -= 1
            self.in_flight += Counter()  # those of which there are some

    def is_using(self, upstream: Upstream) -> bool:
        """True while a delivery runs at that upstream."""
        return self.in_flight[id(upstream)] > 0
