"""A server in front of gates, as the tests of moto want one: a new world at each reset.

Each region that a client signs for has a gate of its own, since a gate has one. What an account
registers is verified at once.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from smtpgate.admin import identities, topics
from smtpgate.admin.errors import ConflictError
from smtpgate.admin.refs import IdentityRef, TopicRef
from smtpgate.admin.session import operator_session
from smtpgate.admin.verification import vouch
from smtpgate.gate.gate import Gate
from smtpgate.tasks import TaskOwner
from tests.support.inprocess import open_gate

T = TypeVar("T")

ACCOUNT: Final = "123456789012"
KEY_ID: Final = "AKIAMOTO000000000000"
_ACCOUNTS: Final = f"""
[accounts.{ACCOUNT}]
max_24h_send = 1000
max_send_rate_per_s = 1000
[[accounts.{ACCOUNT}.access_keys]]
id = "{KEY_ID}"
secret_file = "secret"
"""
_SECTIONS: Final = """
[signing]
require = false
[api.ses]
address = "127.0.0.1"
port = 0
tls = "none"
allow_plaintext = true
"""
# Moto makes no topics of those that its tests of SES name.
_TOPIC: Final = "myTopic"
_SCOPE: Final = re.compile(r"Credential=[A-Z0-9]+/[0-9]{8}/([a-z0-9-]+)/([a-z0-9]+)/")
_READS: Final = re.compile(rb"(?:^|&)Action=(?:Describe|Get|List)")
_RESET: Final = "/moto-api/reset"
_TIMEOUT_S: Final = 60


@dataclass(slots=True)
class _World:
    """A gate that runs in a task of its own until it is ended."""

    gate: asyncio.Future[Gate]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Worlds:
    """The gates between two resets, by region; each is started at its first call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._worlds: dict[str, _World] = {}
        self._tasks = TaskOwner()

    async def reset(self) -> None:
        """End all gates."""
        for world in self._worlds.values():
            world.ended.set()
        self._worlds.clear()
        assert await self._tasks.finish(_TIMEOUT_S) == 0

    async def port(self, region: str) -> int:
        """The port of the API of a region's gate."""
        world = self._worlds.get(region)
        if world is None:
            world = _World(asyncio.get_running_loop().create_future())
            self._worlds[region] = world
            _ = self._tasks.start(self._run(region, world))
        return (await world.gate).service.apis["ses"].port

    async def _run(self, region: str, world: _World) -> None:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        its_region = f'region = "{region}"'
        try:
            async with open_gate(
                folder, accounts=_ACCOUNTS, gate=its_region, sections=_SECTIONS
            ) as (gate, _):
                world.gate.set_result(gate)
                await world.ended.wait()
        except Exception as error:
            if world.gate.done():
                raise
            world.gate.set_exception(error)
        finally:
            shutil.rmtree(folder)

    async def settle(self, region: str) -> None:
        """Verify what is registered, make the topic, and have the gate know all changes."""
        gate = await self._worlds[region].gate
        session = operator_session(
            gate.config, gate.store, gate.clock, name="tester", origin="test"
        )
        async for page in identities.pages(session, ACCOUNT):
            for one in page:
                if not one.is_verified:
                    await vouch(session, IdentityRef(ACCOUNT, one.name))
        with suppress(ConflictError):
            await topics.create(session, TopicRef(ACCOUNT, _TOPIC), "1")
        await gate.service.catch_up()


@asynccontextmanager
async def moto_front(folder: Path) -> AsyncIterator[str]:
    """The URL of a front; its gates have folders in ``folder``."""
    loop, worlds = asyncio.get_running_loop(), Worlds(folder)

    def wait_for(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_TIMEOUT_S)

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            """Answer a request: a reset here, any other by the gate of its region."""
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == _RESET:
                wait_for(worlds.reset())
                self.send_response(200)
                self.end_headers()
                return
            scope = _SCOPE.search(self.headers["Authorization"] or "")
            region, service = scope.groups() if scope else ("us-east-1", "")
            gate = HTTPConnection("127.0.0.1", wait_for(worlds.port(region)), _TIMEOUT_S)
            gate.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                gate.putheader(name, value)
            gate.endheaders(body)
            answer = gate.getresponse()
            content = answer.read()
            gate.close()
            is_reading = self.command == "GET" or _READS.search(body)
            if service == "ses" and not is_reading:
                wait_for(worlds.settle(region))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"server", "date"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            await asyncio.to_thread(server.shutdown)
            await asyncio.to_thread(thread.join)
            await worlds.reset()
