"""Whether the ledger could count now, asked now and then, for those who ask the gate."""

from collections.abc import Callable
from typing import Final

from smtpgate.ports import Ledger, LedgerUnavailableError
from smtpgate.tasks import Rhythm

__all__ = ["LedgerWatch"]

_EVERY_S: Final = 5.0


class LedgerWatch:
    """Probes the ledger every five seconds, also when no message comes that would."""

    def __init__(self, ledger: Ledger, *, on_error: Callable[[BaseException], None]) -> None:
        self._ledger = ledger
        self._on_error = on_error
        self._problem: str | None = "not asked yet"
        self._rhythm = Rhythm()

    @property
    def problem(self) -> str | None:
        """Why the ledger cannot count, as of the last look; ``None`` when it can."""
        return self._problem

    async def run(self) -> None:
        """Look now and then, until stopped."""
        while await self._rhythm.goes_on(_EVERY_S):
            await self.look()

    def stop(self) -> None:
        """Look no longer."""
        self._rhythm.end()

    async def look(self) -> None:
        """Ask now; it takes at most as long as the ledger may."""
        try:
            await self._ledger.probe()
        except LedgerUnavailableError as error:
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001 - it must not end the gate's life
            self._on_error(error)
            self._problem = "not known"
        else:
            self._problem = None
