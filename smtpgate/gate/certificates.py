"""The certificates of the listeners, loaded again on request."""

import contextlib
from collections.abc import Iterator

from smtpgate.config import Config
from smtpgate.gate.listen import FEEDBACK, server_tls
from smtpgate.log import JsonLog
from smtpgate.ports import Clock, Reading


class Certificates:
    """The certificate of each listener that has TLS."""

    def __init__(self, config: Config) -> None:
        """Load them. Raises OpenError."""
        self.of = server_tls(config)
        self._hostnames = {FEEDBACK: config.feedback.host}
        self._hostname = config.hostname

    def readings(self) -> Iterator[Reading]:
        """When they end, for a scrape."""
        for tls in self.of.values():
            yield from tls.readings()

    def warn(self, log: JsonLog, clock: Clock) -> None:
        """Log why clients refuse a certificate, or will soon."""
        for name, tls in self.of.items():
            hostname = self._hostnames.get(name, self._hostname)
            for warning in tls.warnings(hostname, clock.now()):
                log.note("warning", "certificate", problem=warning)

    def reload_quietly(self) -> None:
        """Load them again in a worker, whose parent has logged what is wrong with them."""
        for tls in self.of.values():
            with contextlib.suppress(OSError):
                tls.reload()

    def reload(self, log: JsonLog, clock: Clock) -> list[str]:
        """Load them again; the problems of files that cannot be used: the old one stays."""
        problems = []
        for name, tls in self.of.items():
            try:
                tls.reload()
            except OSError as error:
                problems.append(str(error))
                log.note("error", "certificate not loaded", problem=str(error))
            else:
                ends = tls.not_after
                log.note("info", "certificate loaded", listener=name, not_after=ends)
        self.warn(log, clock)
        return problems
