"""Readiness of the gate for mail: named checks that must all pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

_NOT_KNOWN: Final = "not known"

# Whether it passes, and its state in a few words. It must not wait, and is called often.
Check = Callable[[], tuple[bool, str]]


class Readiness:
    """The checks of ``/readyz``; a check that raises has failed."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._checks: dict[str, Check] = {}
        self._on_error = on_error

    def add(self, name: str, check: Check) -> None:
        """Add a check; it replaces another of the same name."""
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Forget the check of that name, if there is one."""
        _ = self._checks.pop(name, None)

    def is_ready(self) -> tuple[bool, Mapping[str, str]]:
        """True if every check passes, with the state of each."""
        answers = self.checks()
        return (
            all(holds for holds, _ in answers.values()),
            {name: text for name, (_, text) in answers.items()},
        )

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Each check: whether it passes, and its state."""
        return {name: self._ask(check) for name, check in self._checks.items()}

    def _ask(self, check: Check) -> tuple[bool, str]:
        try:
            return check()
        except Exception as error:  # noqa: BLE001 - the page shows nothing of our insides
            self._on_error(error)
            return False, _NOT_KNOWN


def of_all(states: Sequence[tuple[bool, str]]) -> tuple[bool, str]:
    """One check of several processes, which passes if it does in all of them."""
    failed = next((state for state in states if not state[0]), None)
    return failed or next(iter(states), (False, _NOT_KNOWN))


def of_any(states: Sequence[tuple[bool, str]], well: str) -> tuple[bool, str]:
    """One check of several processes, which passes if it does in one of them.

    The text is that of a process where it is another than ``well``, with their number.
    """
    if not states:
        return False, _NOT_KNOWN
    holds = any(passes for passes, _ in states)
    texts = [text for _, text in states if text != well]
    if not texts:
        return holds, well
    some = "" if len(texts) == len(states) else f" (in {len(texts)} of {len(states)} workers)"
    return holds, f"{texts[0]}{some}"
