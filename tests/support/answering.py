"""A gate that answers requests of the control socket as a test wants, in its own thread."""

import asyncio
import threading
from collections.abc import Callable

from smtpgate.control import ControlServer, Routes
from tests.support.desk import Desk
from tests.support.waiting import until


class AnsweringGate:
    """It answers until it is closed; ``add_to`` adds its handlers."""

    def __init__(self, desk: Desk, add_to: Callable[[Routes], None]) -> None:
        self._add_to = add_to
        self._path = desk.folder / "state" / "control.sock"
        self._path.parent.mkdir(exist_ok=True)
        self._stop, self._is_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._is_up.wait(10)

    async def _run(self) -> None:
        routes = Routes()
        self._add_to(routes)
        server = ControlServer(self._path, routes, lambda _: None)
        server.start()
        self._is_up.set()
        await until(self._stop.is_set)
        await server.stop()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
