"""The demo's transcript: what is said, what is expected, and whether it came out so."""

from collections.abc import Callable


class Story:
    """Prints as it goes, and remembers what came out wrong."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self.failures: list[str] = []

    def say(self, text: str = "") -> None:
        """Print a line."""
        self._write(f"{text}\n")

    def chapter(self, title: str) -> None:
        """Print a heading."""
        self.say(f"\n== {title}")

    def quote(self, text: str) -> None:
        """Print lines that are quoted from somewhere."""
        for line in text.splitlines():
            self.say(f"   | {line}")

    def check(self, what: str, *, holds: bool) -> None:
        """State what must hold, and whether it does."""
        self.say(f"   {'ok  ' if holds else 'FAIL'}  {what}")
        if not holds:
            self.failures.append(what)
