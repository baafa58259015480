"""When and from where access keys were last used, written down now and then."""

from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from smtpgate.core.events import Authenticated, Event
from smtpgate.directory.keys import KeyUse, note_uses
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 30.0
_MAX_KEPT: Final = 100_000


class KeyUses:
    """Collects logins, the latest of each access key; implements the EventSink port.

    Collected uses are written every half minute, and when the gate ends. They are no
    change of the directory, and a crash loses half a minute of it.
    """

    reads: ClassVar[tuple[type, ...]] = (Authenticated,)

    def __init__(
        self, store: DirectoryStore, *, on_error: Callable[[BaseException], None]
    ) -> None:
        self._store = store
        self._on_error = on_error
        self._latest: dict[str, KeyUse] = {}
        self._rhythm = Rhythm()

    def publish(self, event: Event) -> None:
        """Note a login."""
        if not isinstance(event, Authenticated):
            return
        key_id = event.client.access_key_id
        if key_id in self._latest or len(self._latest) < _MAX_KEPT:
            self._latest[key_id] = KeyUse(key_id, event.at, event.client.address)

    def take(self, uses: Iterable[KeyUse]) -> None:
        """Note logins at another process of the gate."""
        for use in uses:
            known = self._latest.get(use.key_id)
            is_kept = known is not None or len(self._latest) < _MAX_KEPT
            if is_kept and (known is None or known.at <= use.at):
                self._latest[use.key_id] = use

    async def run(self) -> None:
        """Write now and then, until stopped."""
        while await self._rhythm.goes_on(_EVERY_S):
            await self.flush()
        await self.flush()

    def stop(self) -> None:
        """Write once more, and then no longer."""
        self._rhythm.end()

    async def flush(self) -> None:
        """Write the collected uses; after an error they are kept for the next time."""
        if not self._latest:
            return
        uses, self._latest = self._latest, {}
        try:
            async with self._store.database.changing() as connection:
                await note_uses(connection, tuple(uses.values()))
        except DirectoryUnavailableError:
            self._latest = uses | self._latest  # the feed reports that the database is gone
        except Exception as error:  # noqa: BLE001 - it must not end the gate's life
            self._on_error(error)
