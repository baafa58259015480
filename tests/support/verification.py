"""The worker that checks identities, over a store of a test."""

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.core.events import Event
from smtpgate.directory.change import Actor
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock


class _Silent:
    def publish(self, event: Event) -> None:
        """Let it pass."""


def _fail(error: BaseException) -> None:
    raise error


def worker_of(store: DirectoryStore, checks: DnsChecks, clock: Clock) -> VerificationWorker:
    """A worker that fails where a gate would go on."""
    return VerificationWorker(
        DirectoryIdentities(store, Actor("worker", "here"), "recheck"),
        checks,
        clock=clock,
        chance=lambda: 0.5,
        events=_Silent(),
        on_error=_fail,
    )
