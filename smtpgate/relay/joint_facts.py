"""The facts of several upstreams together, as any of them may get a message."""

from collections.abc import Sequence

from smtpgate.ports import UpstreamFacts


class JointFacts:
    """The facts that hold for each of them, so far as they are known."""

    def __init__(self, upstreams: Sequence[UpstreamFacts]) -> None:
        self._upstreams = upstreams

    @property
    def extensions(self) -> frozenset[str] | None:
        """The EHLO keywords that all offered; ``None`` before the first connection."""
        known = [one.extensions for one in self._upstreams]
        offered = [one for one in known if one is not None]
        return frozenset.intersection(*offered) if offered else None

    @property
    def max_octets(self) -> int | None:
        """The largest message that all take; ``None`` when unknown."""
        known = (one.max_octets for one in self._upstreams)
        return min((one for one in known if one is not None), default=None)

    @property
    def max_recipients(self) -> int | None:
        """The most recipients that all take at once; ``None`` when unknown."""
        known = (one.max_recipients for one in self._upstreams)
        return min((one for one in known if one is not None), default=None)

    @property
    def max_recipient_domains(self) -> int | None:
        """The most domains of recipients that all take at once; ``None`` when unknown."""
        known = (one.max_recipient_domains for one in self._upstreams)
        return min((one for one in known if one is not None), default=None)
