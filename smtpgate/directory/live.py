"""The directory as the path of a message sees it: from memory, and never older than it may be.

Answers are kept compiled, so a warm path asks no database. A change feed drops what changed
within a second of its commit, on every worker and host. While the database cannot be asked,
kept answers serve on until the last reading of the feed is ``max_stale_s`` old; from then on,
and at once for answers that are not cached, the directory is unavailable. There is no third
way, so nothing is ever allowed that was not looked up.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any, Final, TypeVar, cast

from smtpgate.core.account import AccessKey
from smtpgate.core.address import domain_of
from smtpgate.core.events import DirectoryChanged
from smtpgate.core.identity import Identity
from smtpgate.core.naming import is_access_key_id, user_key
from smtpgate.core.notification.settings import (
    NO_NOTIFICATIONS,
    ConfigurationSet,
    NotificationSettings,
    Subscription,
)
from smtpgate.core.suppression.lists import Suppression, SuppressionReason
from smtpgate.directory.cache import Cache, CacheKey, Dependency
from smtpgate.directory.change import AuditSubject
from smtpgate.directory.feed import Changes, Feed
from smtpgate.directory.load import Loaded, Loader
from smtpgate.directory.load_settings import SETTINGS_KINDS, load_settings, owned
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppressed import SuppressedAddresses
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink, Reading, Validity
from smtpgate.tasks import TaskOwner, Threads

R = TypeVar("R")
T = TypeVar("T")
OnChanges = Callable[[Changes], None]

# Compiling more text than this is done in a thread: it takes over half a millisecond.
_OFFLOAD_OCTETS: Final = 4_000
# Freeing more large answers at once takes over a millisecond.
_FREED_TOGETHER: Final = 4
# How long answers that are being read may take when the gate stops.
_LAST_ANSWERS_S: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """The size of the cache, and the time for which it may be used."""

    max_octets: int = 64 * 1024 * 1024
    max_absent: int = 20_000
    absent_s: float = 60
    max_stale_s: float = 300
    poll_s: float = 0.25
    load_s: float = 5


class LiveDirectory:
    """Implements the Directory port over a store."""

    def __init__(
        self,
        store: DirectoryStore,
        loader: Loader,
        *,
        settings: LiveSettings,
        clock: Clock,
        on_changes: OnChanges | None = None,
        events: EventSink | None = None,
    ) -> None:
        self.store = store
        self.loader = loader
        self._settings = settings
        self._clock = clock
        self._on_changes = on_changes
        self._events = events
        self._failed_at_s = 0.0
        self._cache = Cache(
            max_octets=settings.max_octets,
            max_absent=settings.max_absent,
            absent_s=settings.absent_s,
        )
        self._loads: dict[CacheKey, asyncio.Task[Any]] = {}
        self._generation = 0
        self._feed = Feed(store.database, clock)
        self._tasks = TaskOwner()
        self._suppressed = SuppressedAddresses(store, self._tasks)
        self._threads = Threads("directory")
        self._as_of_s: float | None = None
        self._problem: str | None = None

    # -- the port ------------------------------------------------------------------------------

    async def access_key(self, key_id: str) -> AccessKey | None:
        """The key of that id with the principal it acts for, active or not."""
        if not is_access_key_id(key_id):
            return None  # whatever a client calls itself is no question to a database
        question = CacheKey("key", key_id)
        is_known, key = self._known(question)
        answer: AccessKey | None = key if is_known else await self._asked(question)
        return answer

    async def identities(self, name: str) -> Sequence[Identity]:
        """Every identity of exactly that name, of any account, verified or not."""
        if "@" in name:
            # One answer for all addresses of a domain: most domains have no address identity,
            # and senders may invent a new label for each message.
            question = CacheKey("addresses", domain_of(name))
            is_known, known = self._known(question)
            if not is_known:
                known = await self._asked(question)
            if known is not None and name not in known:
                return ()
        question = CacheKey("identity", name)
        is_known, found = self._known(question)
        answer: Sequence[Identity] = found if is_known else await self._asked(question)
        return answer

    def validity_of(
        self, key: AccessKey, identities: Mapping[str, Sequence[Identity]]
    ) -> Validity | None:
        """For how long these answers are certain; see the port."""
        peek = self._cache.peek_until
        answer, until_s = peek(CacheKey("key", key.id))
        all_known, questions = answer is key, 1
        for name, found in identities.items():
            names, names_until_s = None, inf
            if "@" in name:
                names, names_until_s = peek(CacheKey("addresses", domain_of(name)))
                questions += 1
            if names is not None and name not in names:
                answer, its_until_s = (), inf
            else:
                answer, its_until_s = peek(CacheKey("identity", name))
                questions += 1
            all_known = all_known and answer is found
            until_s = min(until_s, names_until_s, its_until_s)
        return Validity(self._cache.gone, until_s, questions) if all_known else None

    def is_valid(self, validity: Validity) -> bool:
        """True if the same answers would be given now; then they count as given."""
        cache, now_s = self._cache, self._clock.monotonic()
        if (
            validity.gone != cache.gone
            or now_s >= validity.until_s
            or self._as_of_s is None
            or now_s - self._as_of_s > self._settings.max_stale_s
        ):
            return False
        cache.hits += validity.questions
        return True

    async def notifications(
        self, name: str, owner_id: str, account_id: str
    ) -> NotificationSettings:
        """The settings of an account for the owner's identity of that name."""
        found = await self._answer(CacheKey("notifications", name))
        return cast("NotificationSettings", found.get((owner_id, account_id), NO_NOTIFICATIONS))

    async def configuration_set(self, account_id: str, name: str) -> ConfigurationSet | None:
        """The configuration set of that name."""
        found = await self._answer(CacheKey("set", owned(account_id, name)))
        return cast("ConfigurationSet | None", found)

    async def subscriptions(self, account_id: str, topic: str) -> tuple[Subscription, ...]:
        """The subscriptions of an account's topic, also those that are not confirmed."""
        found = await self._answer(CacheKey("topic", owned(account_id, topic)))
        return cast("tuple[Subscription, ...]", found)

    async def suppression(self, account_id: str) -> Suppression:
        """The settings of an account for its suppression list."""
        found: Suppression = await self._answer(CacheKey("suppression", account_id))
        return found

    async def suppressed(
        self, account_id: str, addresses: Sequence[str]
    ) -> Mapping[str, SuppressionReason]:
        """Those of the addresses that are on an account's list, with their reasons.

        The addresses are in the spelling of lists. Each account has as few queries as possible.
        """
        _ = self._fresh_at(self._clock.monotonic())
        return await self._suppressed.find(account_id, addresses)

    def may_publish(self, account_id: str, identity: str) -> bool:
        """False if it is known that an account's identity has no default configuration set.

        It waits for nothing: the message that it is about has just asked for the identity.
        """
        question = _own_identity(account_id, identity)
        if question is None:
            return False  # the default one is its owner's, for its own mail
        known = self._cache.peek(question)
        if known is None:
            return True
        return account_id in [one.owner_id for one in known if one.configuration_set]

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read where the feed stands, then follow it. Raises DirectoryUnavailableError."""
        await self.catch_up()
        following = self._feed.follow(self._take, self._settings.poll_s)
        _ = self._tasks.start(following, name="feed")

    async def catch_up(self) -> None:
        """Read all changes that were committed so far. Raises DirectoryUnavailableError."""
        try:
            self._take(await self._feed.read())
        except DirectoryUnavailableError as error:
            self._take(error)
            raise

    async def stop(self) -> None:
        """Follow no longer; the store stays open."""
        self._feed.stop()
        await self._tasks.drain(_LAST_ANSWERS_S)

    @property
    def problem(self) -> str | None:
        """The problem of the database at present, or ``None``."""
        return self._problem

    @property
    def age_s(self) -> float:
        """The time since the database was last read, in seconds."""
        return self._age_at(self._clock.monotonic())

    def _age_at(self, now_s: float) -> float:
        return 0.0 if self._as_of_s is None else max(now_s - self._as_of_s, 0.0)

    @property
    def cache(self) -> Cache:
        """The answers that are kept."""
        return self._cache

    def readings(self) -> Iterator[Reading]:
        """The state of the database's connection and of the cache, for a scrape."""
        cache = self._cache
        yield Reading("smtpgate_directory_up", 0 if self.problem else 1)
        yield Reading("smtpgate_directory_age_seconds", self.age_s)
        yield Reading("smtpgate_directory_cache_entries", len(cache))
        yield Reading("smtpgate_directory_cache_octets", cache.octets)
        yield Reading("smtpgate_directory_answers_total", cache.hits, ("cache",))
        yield Reading("smtpgate_directory_answers_total", cache.misses, ("database",))

    # -- answers -------------------------------------------------------------------------------

    def _fresh_at(self, now_s: float) -> float:
        """That time, if answers may be used then. Raises DirectoryUnavailableError."""
        age_s = self._age_at(now_s)
        if age_s > self._settings.max_stale_s:
            why = self._problem or f"{self.store.database.name}: gives no answer"
            raise DirectoryUnavailableError(f"{why}; last read {age_s:.0f} s ago")
        return now_s

    async def _answer(self, key: CacheKey) -> Any:  # noqa: ANN401 - by the key's kind
        is_known, value = self._known(key)
        return value if is_known else await self._asked(key)

    def _known(self, key: CacheKey) -> tuple[bool, Any]:
        """True if there is an answer in memory that may be used, and the answer.

        Nearly every question of a message ends here; so it is no coroutine. Raises
        DirectoryUnavailableError.
        """
        now_s = self._clock.monotonic()
        if self._as_of_s is None or now_s - self._as_of_s > self._settings.max_stale_s:
            now_s = self._fresh_at(now_s)
        return self._cache.get(key, now_s, also_lapsed=self._problem is not None)

    async def _asked(self, key: CacheKey) -> Any:  # noqa: ANN401 - by the key's kind
        """The answer of the database, which is not in memory."""
        if self._problem is not None:
            raise DirectoryUnavailableError(self._problem)
        try:
            return await self._loading(key)
        except DirectoryUnavailableError:
            # The feed has not noticed yet that the database is away.
            is_known, value = self._cache.get(key, self._clock.monotonic(), also_lapsed=True)
            if is_known:
                return value
            raise

    async def _loading(self, key: CacheKey) -> Any:  # noqa: ANN401 - by the key's kind
        """The answer from the database; concurrent callers with the same question share it."""
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = self._tasks.start(self._load(key), name="load")
            task.add_done_callback(_look_at)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled() or _is_cancelled():
                raise
            raise DirectoryUnavailableError("the directory was closed meanwhile") from None

    async def _load(self, key: CacheKey) -> Any:  # noqa: ANN401 - by the key's kind
        """Read and compile an answer, and keep it unless something changed meanwhile."""
        generation = self._generation
        try:
            async with asyncio.timeout(self._settings.load_s):
                loaded = await self._loaded(key)
        except TimeoutError:
            text = f"no answer within {self._settings.load_s:g} s"
            raise DirectoryUnavailableError(f"{self.store.database.name}: {text}") from None
        except (DirectoryUnavailableError, asyncio.CancelledError):
            raise
        except Exception as error:
            # A part of the stored object cannot be used, so nothing of it is used.
            raise DirectoryUnavailableError(f"{key}: {error}") from error
        finally:
            if self._loads.get(key) is asyncio.current_task():
                del self._loads[key]
        if generation == self._generation:
            if loaded.value:
                self._cache.put(key, loaded.value, loaded.depends_on, loaded.octets)
            else:
                self._cache.put_absent(key, loaded.value, self._clock.monotonic())
        return loaded.value

    async def _loaded(self, key: CacheKey) -> Loaded[Any]:
        loader = self.loader
        if key.kind == "identity":
            async with self.store.reading() as connection:
                rows = await loader.read_identities(connection, key.name)
            return await self._compiled(rows.policy_octets, loader.compile_identities, rows)
        async with self.store.reading() as connection:
            if key.kind in SETTINGS_KINDS:
                return await load_settings(connection, loader, key)
            if key.kind == "addresses":
                return await loader.read_addresses(connection, key.name)
            key_rows = await loader.read_key(connection, key.name)
        if key_rows is None:
            return Loaded(None, (), 0)
        return await self._compiled(key_rows.policy_octets, loader.compile_key, key_rows)

    async def _compiled(
        self, octets: int, compile_: Callable[[R], Loaded[T]], rows: R
    ) -> Loaded[Any]:
        if octets <= _OFFLOAD_OCTETS:
            return compile_(rows)
        return await self._threads.run(compile_, rows)

    # -- changes -------------------------------------------------------------------------------

    def _take(self, reading: Changes | DirectoryUnavailableError) -> None:
        """Handle one reading of the feed."""
        if isinstance(reading, DirectoryUnavailableError):
            if self._problem is None:
                self._failed_at_s = self._clock.monotonic()
                self._publish(str(reading), 0.0)
            self._problem = str(reading)
            return
        if self._problem is not None:
            self._problem = None
            self._publish(None, self._clock.monotonic() - self._failed_at_s)
        self._as_of_s = reading.as_of_s
        if not reading.everything and not reading.subjects:
            return
        # Answers that are being read now may be older than the change.
        if reading.everything:
            self._forget_all()
        else:
            self._forget_loads()
        for subject in reading.subjects:
            self._forget(subject)
        if self._on_changes is not None:
            self._on_changes(reading)

    def use(self, loader: Loader) -> None:
        """Answer from now on as that loader reads the directory."""
        self.loader = loader
        self._forget_all()

    def _forget_loads(self) -> None:
        self._generation += 1
        self._loads.clear()

    def _forget_all(self) -> None:
        self._forget_loads()
        self._cache.clear()
        self._suppressed.forget_all()
        _ = self._tasks.start(self._free(), name="free")

    async def _free(self) -> None:
        """Free the answers that were forgotten, a few at a time."""
        while self._cache.free(_FREED_TOGETHER):  # noqa: ASYNC110 - it waits for nothing
            await asyncio.sleep(0)

    def _publish(self, problem: str | None, lasted_s: float) -> None:
        if self._events is not None:
            self._events.publish(DirectoryChanged(problem, lasted_s, self._clock.now()))

    def _forget(self, subject: AuditSubject) -> None:
        """Drop the cached answers that a change was about."""
        if subject.kind == "account":
            self._cache.drop_depending(Dependency(subject.account_id))
        elif subject.kind == "user":
            user = Dependency(subject.account_id, user_key(subject.name))
            self._cache.drop_depending(user)
        elif subject.kind == "key":
            self._cache.drop([CacheKey("key", subject.name)])
        elif subject.kind == "identity":
            domain = domain_of(subject.name) if "@" in subject.name else subject.name
            self._cache.drop(
                [
                    CacheKey("identity", subject.name),
                    CacheKey("addresses", domain),
                    CacheKey("notifications", subject.name),
                ]
            )
        elif subject.kind == "list":
            self._cache.drop([CacheKey("suppression", subject.account_id)])
            self._suppressed.forget(subject.account_id)
        elif subject.kind in ("topic", "set"):
            name = owned(subject.account_id, subject.name)
            self._cache.drop([CacheKey(subject.kind, name)])


@lru_cache(maxsize=1024)  # the messages of a sender have the same
def _own_identity(account_id: str, arn: str) -> CacheKey | None:
    """The question about the identity with that ARN; ``None`` if it is not the account's."""
    owner_id, _, name = arn.rpartition(":identity/")
    return CacheKey("identity", name) if owner_id.endswith(f":{account_id}") else None


def _look_at(task: asyncio.Task[Any]) -> None:
    """Mark an error as seen although no caller waits for it any more."""
    if not task.cancelled():
        task.exception()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
