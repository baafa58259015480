"""The upstream of ``upstream_server.py`` in a thread of its own, for tests without a loop."""

import asyncio
import threading

from tests.support.daemons import PATIENCE_S, Lab, eventually
from tests.support.upstream_server import UpstreamServer, open_upstream


class UpstreamThread:
    """Such an upstream; ``server`` may be read at any time, and its answers be set."""

    def __init__(self, *offers: str) -> None:
        self.server: UpstreamServer
        self._offers = offers
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._is_open.wait(PATIENCE_S)

    @property
    def commands(self) -> list[str]:
        """The commands of all connections."""
        return [command for visit in self.server.visits for command in visit.commands]

    def wait_for(self, count: int) -> list[bytes]:
        """Wait until that many messages are there."""
        eventually(lambda: len(self.server.messages) >= count, f"{count} messages upstream")
        return self.server.messages

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with open_upstream(*self._offers) as self.server:
            self._is_open.set()
            await self._is_over.wait()


def upstream_thread(lab: Lab, *offers: str) -> UpstreamThread:
    """Start one that stops with the lab."""
    upstream = UpstreamThread(*offers)
    lab.keep(upstream)
    return upstream
