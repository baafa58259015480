"""Counters of what sending limits did to the mail."""

from collections.abc import Callable, Iterable

from prometheus_client import Counter

from smtpgate.core.limits import Crossing

__all__ = ["LimitCounters"]


class LimitCounters:
    """Counts thresholds that were told of, refused MAIL commands, and uncounted messages."""

    def __init__(self, counter: Callable[[str], Counter]) -> None:
        """``counter`` makes a counter of the catalogue."""
        self._reached = counter("smtpgate_quota_reached_total")
        self._refused = counter("smtpgate_mail_refused_total")
        self._uncounted = counter("smtpgate_uncounted_total")

    def count_crossings(self, crossings: Iterable[Crossing]) -> None:
        """Shares of a quota were reached."""
        for one in crossings:
            self._reached.labels(one.charge.subject.kind, str(one.percent)).inc()

    def count_refused_mail(self, reason: str) -> None:
        """MAIL was refused, and no message came."""
        self._refused.labels(reason).inc()

    def count_uncounted(self) -> None:
        """A message was let through that could not be counted."""
        self._uncounted.inc()
