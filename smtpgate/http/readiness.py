"""Whether new mail is welcome: named checks, each of which must hold."""

from collections.abc import Callable, Mapping

# Whether it holds, and in a few words how it stands. It must not wait, and may be asked often.
Check = Callable[[], tuple[bool, str]]


class Readiness:
    """The checks of ``/readyz``; a check that raises does not hold."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._checks: dict[str, Check] = {}
        self._on_error = on_error

    def add(self, name: str, check: Check) -> None:
        """Ask that check too from now on; it takes the place of another of its name."""
        self._checks[name] = check

    def is_ready(self) -> tuple[bool, Mapping[str, str]]:
        """Whether every check holds, and what each says."""
        answers = {name: self._ask(check) for name, check in self._checks.items()}
        return (
            all(holds for holds, _ in answers.values()),
            {name: text for name, (_, text) in answers.items()},
        )

    def _ask(self, check: Check) -> tuple[bool, str]:
        try:
            return check()
        except Exception as error:  # noqa: BLE001 - who asks hears nothing of the inside
            self._on_error(error)
            return False, "not known"
