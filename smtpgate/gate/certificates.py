"""The certificates of all listeners, loaded again on request and when their files change."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.log import JsonLog
from smtpgate.ports import Clock, Reading
from smtpgate.smtp.certificate import CertificateFiles, PairOctets, ServerTls, Update, pairs_of
from smtpgate.tasks import Threads

FEEDBACK: Final = "[feedback]"
"""The name of the listener for mail that comes back; no other can have it."""

CertificateOctets: TypeAlias = Mapping[str, Sequence[PairOctets]]
"""The contents of the files of each listener's certificates, by its label."""


class Certificates:
    """The certificates of each listener that has TLS."""

    def __init__(
        self,
        config: Config,
        octets: CertificateOctets | None = None,
        before: "Certificates | None" = None,
    ) -> None:
        """Load them, from ``octets`` if another process has read them. Raises OpenError.

        Those of ``before`` whose settings are the same are kept, with their TLS contexts.
        """
        octets, kept = octets or {}, {} if before is None else before.of
        self.of: dict[str, ServerTls] = {}
        for files in _files(config):
            old = kept.get(files.name)
            if old is not None and old.files == files:
                self.of[files.name] = old
                continue
            try:
                self.of[files.name] = ServerTls(files, octets.get(files.name))
            except OSError as error:
                raise OpenError(str(error)) from None
        self._hostnames = {FEEDBACK: config.feedback.host}
        self._hostname = config.hostname
        self._threads = Threads("certificates")

    @property
    def octets(self) -> dict[str, tuple[PairOctets, ...]]:
        """The contents of the files that are in use, for other processes."""
        return {name: tls.octets for name, tls in self.of.items()}

    def readings(self) -> Iterator[Reading]:
        """When they end, for a scrape."""
        for tls in tuple(self.of.values()):
            yield from tls.readings()

    def warnings(self, now: datetime) -> list[str]:
        """Reasons why clients refuse a certificate, now or soon."""
        return [
            warning
            for name, tls in self.of.items()
            for warning in tls.warnings(self._hostnames.get(name, self._hostname), now)
        ]

    def warn(self, log: JsonLog, clock: Clock) -> None:
        """Log these reasons."""
        for warning in self.warnings(clock.now()):
            log.note("warning", "certificate", problem=warning)

    def use(self, octets: CertificateOctets) -> None:
        """Use in a worker what its parent has read. Raises OSError."""
        for name, tls in self.of.items():
            if name in octets:
                tls.use(octets[name])

    async def update(self, log: JsonLog, clock: Clock, *, always: bool = True) -> Update:
        """Load them again, without ``always`` those whose files have changed; log what is new.

        The old one stays where the files cannot be used.
        """
        is_changed, problems = False, list[str]()
        for name, tls in self.of.items():
            update = await self._threads.run(tls.update, clock.now(), always=always)
            for problem in update.problems:
                log.note("error", "certificate not loaded", problem=problem)
            if update.is_changed or (always and not update.problems):
                ends = tls.not_after
                log.note("info", "certificate loaded", listener=name, not_after=ends)
            is_changed |= update.is_changed
            problems += update.problems
        if is_changed or always:
            self.warn(log, clock)
        return Update(is_changed, tuple(problems))


def _files(config: Config) -> list[CertificateFiles]:
    """The files of each port that has TLS."""
    files = [
        CertificateFiles.of(one, one.client_ca_file, one.client_certificate or "required")
        for one in config.listeners
    ]
    files += [CertificateFiles.of(one) for one in config.apis]
    feedback = config.feedback
    if feedback.enabled:
        cert_file, key_file = feedback.tls_cert_file, feedback.tls_key_file
        files.append(
            CertificateFiles(
                name=FEEDBACK,
                section="feedback",
                pairs=pairs_of(cert_file, key_file, feedback.certificates, "tls_"),
                min_tls=feedback.min_tls,
                host_key="feedback.domain",
            )
        )
    return [one for one in files if one.pairs]
