"""Globs: ``*`` matches any run of characters, ``?`` exactly one, other characters themselves.

Patterns are cut at their stars once, when a policy is read. Matching then looks for the pieces
from left to right, each at the first place where it fits: a star can always be made longer
later, so nothing is ever tried again. Time is at most pattern times text, memory the pattern's.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final

Matcher = Callable[[str], bool]


class Wild(Enum):
    """The two wildcards."""

    MANY = "*"
    ONE = "?"


Piece = str | Wild
Pattern = Sequence[Piece]
# A stretch between two stars: its length, and its characters with their places in it.
_Stretch = tuple[int, tuple[tuple[int, str], ...]]
_WILDCARD: Final = re.compile(r"([*?])")
_WILD: Final[dict[str, Piece]] = {wild.value: wild for wild in Wild}
# How many patterns are tried in turn before they are looked up by their first letter.
_FEW: Final = 8


def pieces_of(pattern: str) -> tuple[Piece, ...]:
    """A pattern cut into literal texts and wildcards."""
    if "*" not in pattern and "?" not in pattern:
        return (pattern,) if pattern else ()
    return tuple(_WILD.get(part, part) for part in _WILDCARD.split(pattern) if part)


def glob_match(pattern: str, text: str) -> bool:
    """True if the glob matches the whole text."""
    return _glob(pieces_of(pattern))(text)


def _glob(pieces: Pattern) -> Matcher:
    if Wild.ONE in pieces:
        return _glob_with_single(_stretches(pieces))
    parts = _parts(pieces)
    if len(parts) == 1:
        return parts[0].__eq__
    return _glob_with_stars(parts[0], [part for part in parts[1:-1] if part], parts[-1])


def _parts(pieces: Pattern) -> list[str]:
    """The literal texts between the wildcards."""
    parts = [""]
    for piece in pieces:
        if isinstance(piece, str):
            parts[-1] += piece
        else:
            parts.append("")
    return parts


def _glob_with_stars(head: str, middle: Sequence[str], tail: str) -> Matcher:
    shortest = len(head) + len(tail)

    def matches(text: str) -> bool:
        if len(text) < shortest or not (text.startswith(head) and text.endswith(tail)):
            return False
        at, end = len(head), len(text) - len(tail)
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


def _stretches(pieces: Pattern) -> list[_Stretch]:
    stretches: list[_Stretch] = [(0, ())]
    for piece in pieces:
        length, wanted = stretches[-1]
        if piece is Wild.MANY:
            stretches.append((0, ()))
        elif piece is Wild.ONE:
            stretches[-1] = (length + 1, wanted)
        else:
            stretches[-1] = (length + len(piece), (*wanted, *enumerate(piece, length)))
    return stretches


@lru_cache(16)
def _places(text: str) -> dict[str, int]:
    """The positions of each character in the text, as a set of bits."""
    places = dict.fromkeys(text, 0)
    for at, character in enumerate(text):
        places[character] |= 1 << at
    return places


def _first_place(stretch: _Stretch, places: dict[str, int], at: int, last: int) -> int:
    """The first place, from ``at`` to ``last``, where the stretch fits, or -1.

    All positions are tested together, so time does not depend on near misses.
    """
    if at > last:
        return -1
    found = ((1 << (last - at + 1)) - 1) << at
    for offset, character in stretch[1]:
        found &= places.get(character, 0) >> offset
        if not found:
            return -1
    return (found & -found).bit_length() - 1


def _glob_with_single(stretches: Sequence[_Stretch]) -> Matcher:
    head, *middle, tail = stretches if len(stretches) > 1 else (*stretches, (0, ()))
    is_fixed = len(stretches) == 1
    shortest = sum(length for length, _ in stretches)

    def matches(text: str) -> bool:
        if len(text) != shortest if is_fixed else len(text) < shortest:
            return False
        places = _places(text)
        at, end = head[0], len(text) - tail[0]
        if _first_place(head, places, 0, 0) or _first_place(tail, places, end, end) != end:
            return False
        for stretch in middle:
            found = _first_place(stretch, places, at, end - stretch[0])
            if found < 0:
                return False
            at = found + stretch[0]
        return True

    return matches


def any_glob(patterns: Iterable[Pattern]) -> Matcher:
    """A test for any of the patterns; literal ones cost one look-up together."""
    literals: set[str] = set()
    wild: list[Pattern] = []
    for pieces in patterns:
        if any(isinstance(piece, Wild) for piece in pieces):
            wild.append(pieces)
        else:
            literals.add(_parts(pieces)[0])
    if not wild:
        return frozenset(literals).__contains__
    candidates = _in_turn(wild) if len(wild) <= _FEW else _by_first_letter(wild)
    if not literals:
        return candidates
    return lambda text: text in literals or candidates(text)


def _head_of(pieces: Pattern) -> str:
    return pieces[0] if isinstance(pieces[0], str) else ""


def _by_first_letter(patterns: Sequence[Pattern]) -> Matcher:
    headless = [pieces for pieces in patterns if not _head_of(pieces)]
    letters = {_head_of(pieces)[:1] for pieces in patterns} - {""}
    tables = {
        letter: _in_turn([p for p in patterns if _head_of(p)[:1] in ("", letter)])
        for letter in letters
    }
    others = _in_turn(headless)
    return lambda text: tables.get(text[:1], others)(text)


def _in_turn(patterns: Sequence[Pattern]) -> Matcher:
    # One call shows if any pattern begins as the text does; most texts are refused there.
    heads = tuple(_head_of(pieces) for pieces in patterns)
    # Most patterns have one star; they need no call of their own.
    ends: list[tuple[str, str, int]] = []
    others: list[Matcher] = []
    for pieces in patterns:
        parts = _parts(pieces)
        if len(parts) == 2 and Wild.ONE not in pieces:
            ends.append((parts[0], parts[1], len(parts[0]) + len(parts[1])))
        else:
            others.append(_glob(pieces))

    def matches(text: str) -> bool:
        if not text.startswith(heads):
            return False
        for head, tail, shortest in ends:
            if text.startswith(head) and text.endswith(tail) and len(text) >= shortest:
                return True
        return any(glob(text) for glob in others) if others else False

    return matches


def _segments(pieces: Pattern) -> list[list[Piece]]:
    """Cut at the first five colons; the last part keeps further ones."""
    segments: list[list[Piece]] = [[]]
    for piece in pieces:
        if isinstance(piece, Wild):
            segments[-1].append(piece)
            continue
        first, *others = piece.split(":", 6 - len(segments))
        if first:
            segments[-1].append(first)
        segments.extend([other] if other else [] for other in others)
    return segments


def _arn(pieces: Pattern) -> Callable[[Sequence[str]], bool]:
    segments = _segments(pieces)
    if len(segments) != 6:
        return lambda _parts: False
    globs = tuple(
        (at, _glob(segment)) for at, segment in enumerate(segments) if segment != [Wild.MANY]
    )
    return lambda parts: all(glob(parts[at]) for at, glob in globs)


def is_arn_pattern(pieces: Pattern) -> bool:
    """True if the pattern can match ARNs: ``arn``, then five parts or a wildcard for some."""
    segments = _segments(pieces)
    has_wildcard = any(isinstance(piece, Wild) for piece in pieces)
    return _glob(segments[0])("arn") and (len(segments) == 6 or has_wildcard)


def any_arn(patterns: Iterable[Pattern]) -> Callable[[str], bool | None]:
    """A test for any of the ARN patterns, part by part.

    It returns ``None`` for a text that is not an ARN, and if none matches and one of them is
    not an ARN pattern.

    A star does not reach across the first five colons, so a pattern of fewer parts never
    matches
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html).
    """
    pieces_of_each = tuple(patterns)
    compiled = tuple(_arn(pieces) for pieces in pieces_of_each)
    when_none_matches = False if all(map(is_arn_pattern, pieces_of_each)) else None

    def matches(text: str) -> bool | None:
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            return None
        return any(pattern(parts) for pattern in compiled) or when_none_matches

    return matches
