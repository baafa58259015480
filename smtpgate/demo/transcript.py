"""The transcript of the demonstration, with checks of what it shows."""

from collections.abc import Callable


class Transcript:
    """Writes a transcript, and collects the checks that failed."""

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
        """Print quoted lines."""
        for line in text.splitlines():
            self.say(f"   | {line}")

    def check(self, what: str, *, holds: bool) -> None:
        """Print a check and its result."""
        self.say(f"   {'ok  ' if holds else 'FAIL'}  {what}")
        if not holds:
            self.failures.append(what)
