"""One service after another in one process, each with another configuration.

The newest takes the connections, and the sessions after their transactions. The older ones
remain for the messages that began with them, and are closed when the last one has ended.
"""

from collections.abc import Callable
from typing import Final

from smtpgate.config import Config
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.service import SmtpService
from smtpgate.ports import Upstream
from smtpgate.tasks import Rhythm, TaskOwner

_LOOK_S: Final = 0.5


class Succession:
    """The services of a process."""

    def __init__(
        self,
        first: SmtpService,
        is_using: Callable[[Upstream], bool] = lambda _upstream: False,
    ) -> None:
        """``is_using`` is true while mail of the gate itself goes by an upstream."""
        self.current = first
        self._is_using = is_using
        self._prepared: SmtpService | None = None
        self._leaving: list[SmtpService] = []
        self._looks = Rhythm()
        self._tasks = TaskOwner()

    def prepare(self, config: Config, certificates: Certificates) -> None:
        """Make the next service; nothing changes yet. Raises OpenError."""
        self._prepared = self.current.with_config(config, certificates)

    def abandon(self) -> None:
        """Forget what was prepared."""
        self._prepared = None

    def switch(self) -> None:
        """Let the service that was prepared take over, if there is one."""
        before, newer = self.current, self._prepared
        self._prepared = None
        if newer is None:
            return
        newer.take_over(before)
        self.current = newer
        self._leaving.append(before)
        _ = self._tasks.start(self._retire(before), name="retire")

    def release(self) -> None:
        """Let no message wait for its rate any more: the gate drains."""
        for one in self._leaving:
            one.pacer.release()

    async def close(self) -> None:
        """Close the older services; nothing uses them any more."""
        self._looks.end()
        _ = await self._tasks.finish(_LOOK_S)
        for one in tuple(self._leaving):
            await self._close(one)

    async def _retire(self, service: SmtpService) -> None:
        while service.is_in_use or self._is_using(service.upstream):
            if not await self._looks.goes_on(_LOOK_S):
                return  # the gate stops, and closes it
        await self._close(service)

    async def _close(self, service: SmtpService) -> None:
        if service in self._leaving:
            self._leaving.remove(service)
            await service.retire((self.current, *self._leaving))
