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


def passes_in_all(states: Sequence[tuple[bool, str]]) -> tuple[bool, str]:
    """A check that passes if it does so in all processes, from its states in these."""
    failed = next((state for state in states if not state[0]), None)
    return failed or next(iter(states), (False, _NOT_KNOWN))


def passes_in_one(states: Sequence[tuple[bool, str]], usual: str) -> tuple[bool, str]:
    """A check that passes if it does so in one worker, from its states in all workers.

    The text is ``usual`` if all have that one. Otherwise it is the first other text, and says
    in how many workers there is another.
    """
    if not states:
        return False, _NOT_KNOWN
    passes = any(passes for passes, _ in states)
    others = [text for _, text in states if text != usual]
    if not others:
        return passes, usual
    some = "" if len(others) == len(states) else f" (in {len(others)} of {len(states)} workers)"
    return passes, f"{others[0]}{some}"
