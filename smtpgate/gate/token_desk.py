"""The access tokens for the upstreams of a host, which one process fetches: with workers the
parent.

So a host asks a token endpoint once, and a refresh token that may be used only once is used by
one process. Tokens go to workers over their channels, in a frame that does not print them. A
source is known by its settings, so it stays the same over reloads that change others. One that
a reload replaces stays until the next reload, for connections that are opened for older
messages.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Final

from smtpgate.config import Config
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.secret import Secret
from smtpgate.gate.frames import AskToken, TokenShared
from smtpgate.gate.service_log import ServiceLog
from smtpgate.gate.tokens import new_tokens
from smtpgate.log import JsonLog
from smtpgate.oauth import SharedToken, SharedTokens, TokenSource
from smtpgate.ports import Clock, NoTokenError, Reading
from smtpgate.tasks import TaskOwner

_DRAIN_S: Final = 1.0
_UNKNOWN: Final = "the configuration was changed meanwhile"


def _key_of(upstream: UpstreamConfig) -> str:
    """All settings by which an upstream's tokens are fetched; they have no secret."""
    settings = "" if upstream.oauth is None else upstream.oauth.model_dump_json()
    return f"{upstream.name} {upstream.username} {settings}"


class TokenDesk:
    """Fetches the tokens of all upstreams, and shares them."""

    def __init__(self, config: Config, clock: Clock, log: JsonLog) -> None:
        """Begin with that configuration. Raises OpenError."""
        self._clock = clock
        self._on_token = ServiceLog(log, config.gate.state_dir).note_token
        self._sources: dict[str, TokenSource] = {}
        self._in_use: frozenset[str] = frozenset()
        self._tasks = TaskOwner()
        self.prepare(config)
        self.use(config)

    def prepare(self, config: Config) -> None:
        """Be able to share the tokens of that configuration. Raises OpenError."""
        for upstream in config.upstreams:
            _ = self.of(upstream)

    def use(self, config: Config) -> None:
        """Go on with that configuration, which was prepared."""
        before, self._in_use = self._in_use, frozenset(map(_key_of, config.upstreams))
        for key in set(self._sources) - self._in_use - before:
            self._sources.pop(key).close()

    def of(self, upstream: UpstreamConfig) -> SharedTokens | None:
        """An upstream's tokens, for this process. Raises OpenError."""
        key = _key_of(upstream)
        if key not in self._sources:
            source = new_tokens(upstream, self._clock, self._tasks, self._on_token)
            if source is None:
                return None
            self._sources[key] = source
        return SharedTokens(upstream.name, partial(self._share, key))

    def answer(self, asked: AskToken, send: Callable[[TokenShared], None]) -> None:
        """Answer a worker, once there is a token."""
        _ = self._tasks.start(self._answer(asked, send), name="share a token")

    async def _answer(self, asked: AskToken, send: Callable[[TokenShared], None]) -> None:
        try:
            shared = await self._share(asked.key, asked.refused)
        except NoTokenError as error:
            send(TokenShared(asked.number, None, 0.0, 0.0, str(error)))
        else:
            send(
                TokenShared(asked.number, shared.value, shared.left_s, shared.lifetime_s, None)
            )

    async def _share(self, key: str, refused: Secret | None) -> SharedToken:
        source = self._sources.get(key)
        if source is None:
            raise NoTokenError(_UNKNOWN)
        if refused is not None:
            _ = source.refused(refused)
        return await source.share()

    def readings(self) -> Iterator[Reading]:
        """The state of all tokens, for a scrape."""
        for source in tuple(self._sources.values()):
            yield from source.readings()

    async def close(self) -> None:
        """Fetch no more."""
        for source in self._sources.values():
            source.close()
        _ = await self._tasks.drain(_DRAIN_S)


class TokenLink:
    """The tokens of the parent, as its worker has them."""

    def __init__(self, send: Callable[[AskToken], None]) -> None:
        self._send = send
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[SharedToken]] = {}

    def of(self, upstream: UpstreamConfig) -> SharedTokens | None:
        """An upstream's tokens, for this process."""
        if upstream.oauth is None:
            return None
        return SharedTokens(upstream.name, partial(self._ask, _key_of(upstream)))

    def take(self, shared: TokenShared) -> None:
        """Take an answer of the parent."""
        future = self._waiting.get(shared.number)
        if future is None or future.done():
            return
        if shared.token is None:
            future.set_exception(NoTokenError(shared.problem or _UNKNOWN))
        else:
            future.set_result(SharedToken(shared.token, shared.left_s, shared.lifetime_s))

    async def _ask(self, key: str, refused: Secret | None) -> SharedToken:
        """Ask the parent, for as long as the caller waits for a connection."""
        number = next(self._numbers)
        future: asyncio.Future[SharedToken] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._send(AskToken(number, key, refused))
        try:
            return await future
        finally:
            del self._waiting[number]
