"""Problems of a policy document: the path, the message, and a hint at the intended word."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_MAX_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a document, with the path of elements (or line and column) to it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class PolicyError(ValueError):
    """A document that is not a policy, with all its problems, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def shown(text: str) -> str:
    """A text of a document for a message: in quotes, shortened, on one line."""
    if len(text) > _MAX_SHOWN:
        text = text[: _MAX_SHOWN - 3] + "..."
    return f"`{printable(text)}'"


def printable(text: str) -> str:
    """The text on one line, with unprintable characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def hint(word: str, known: Iterable[str]) -> str:
    """The nearest known word as the end of a message, or nothing if none is near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word[:_MAX_SHOWN].lower(), by_lower, n=1)
    return f" (did you mean {shown(by_lower[near[0]])}?)" if near else ""
