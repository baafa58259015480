"""Globs: ``*`` matches any run of characters, ``?`` exactly one, other characters themselves.

Patterns are cut at their stars once, when a policy is read. Matching then looks for the pieces
from left to right, each at the first place where it fits: a star can always be made longer
later, so nothing is ever tried again. Time is at most pattern times text, memory the pattern's.

Prepared patterns are data and not closures: the cache of the directory has hundreds of
thousands of them, and Python's garbage collector, which stops the gate meanwhile, looks at
neither a ``Struct`` with ``gc=False`` nor a tuple of such and of texts.
"""

import re
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from msgspec import Struct

T = TypeVar("T", str, bytes)


class Wild(Struct, frozen=True, gc=False):
    """A wildcard."""

    text: str


MANY: Final = Wild("*")
ONE: Final = Wild("?")

Piece = str | Wild
Pattern = Sequence[Piece]
# A stretch between two stars: its length, and its characters with their places in it.
_Stretch = tuple[int, tuple[tuple[int, str], ...]]
_WILDCARD: Final = re.compile(r"([*?])")
_WILD: Final[dict[str, Piece]] = {wild.text: wild for wild in (MANY, ONE)}
# How many patterns are tried in turn before they are looked up by their first letter.
_FEW: Final = 8
# How many texts are compared in turn before they are looked up.
_SHORT: Final = 8


def lookup(texts: Iterable[T]) -> Container[T]:
    """A container of the texts for membership tests, without objects for the collector."""
    known = dict.fromkeys(texts)
    return known if len(known) > _SHORT else tuple(known)


def pieces_of(pattern: str) -> tuple[Piece, ...]:
    """A pattern cut into literal texts and wildcards."""
    if "*" not in pattern and "?" not in pattern:
        return (pattern,) if pattern else ()
    return tuple(_WILD.get(part, part) for part in _WILDCARD.split(pattern) if part)


def glob_match(pattern: str, text: str) -> bool:
    """True if the glob matches the whole text."""
    return _glob(pieces_of(pattern)).matches(text)


class _Literal(Struct, frozen=True, gc=False):
    """A pattern without wildcards."""

    text: str

    def matches(self, text: str) -> bool:
        """True if it is the text."""
        return text == self.text


class _Stars(Struct, frozen=True, gc=False):
    """A pattern with stars alone."""

    head: str
    middle: tuple[str, ...]
    tail: str
    shortest: int

    def matches(self, text: str) -> bool:
        """True if it matches the whole text."""
        head, tail = self.head, self.tail
        if len(text) < self.shortest or not (text.startswith(head) and text.endswith(tail)):
            return False
        at, end = len(head), len(text) - len(tail)
        for part in self.middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class _Singles(Struct, frozen=True, gc=False):
    """A pattern with question marks; ``is_fixed`` if it has no star."""

    head: _Stretch
    middle: tuple[_Stretch, ...]
    tail: _Stretch
    shortest: int
    is_fixed: bool

    def matches(self, text: str) -> bool:
        """True if it matches the whole text."""
        shortest = self.shortest
        if len(text) != shortest if self.is_fixed else len(text) < shortest:
            return False
        places = _places(text)
        head, tail = self.head, self.tail
        at, end = head[0], len(text) - tail[0]
        if _first_place(head, places, 0, 0) or _first_place(tail, places, end, end) != end:
            return False
        for stretch in self.middle:
            found = _first_place(stretch, places, at, end - stretch[0])
            if found < 0:
                return False
            at = found + stretch[0]
        return True


_Glob = _Literal | _Stars | _Singles


def _glob(pieces: Pattern) -> _Glob:
    if ONE in pieces:
        return _with_singles(_stretches(pieces))
    parts = _parts(pieces)
    if len(parts) == 1:
        return _Literal(parts[0])
    head, *middle, tail = parts
    return _Stars(head, tuple(filter(None, middle)), tail, len(head) + len(tail))


def _with_singles(stretches: Sequence[_Stretch]) -> _Singles:
    is_fixed = len(stretches) == 1
    head, *middle, tail = (*stretches, (0, ())) if is_fixed else stretches
    shortest = sum(length for length, _ in stretches)
    return _Singles(head, tuple(middle), tail, shortest, is_fixed)


def _parts(pieces: Pattern) -> list[str]:
    """The literal texts between the wildcards."""
    parts = [""]
    for piece in pieces:
        if isinstance(piece, str):
            parts[-1] += piece
        else:
            parts.append("")
    return parts


def _stretches(pieces: Pattern) -> list[_Stretch]:
    stretches: list[_Stretch] = [(0, ())]
    for piece in pieces:
        length, wanted = stretches[-1]
        if isinstance(piece, str):
            stretches[-1] = (length + len(piece), (*wanted, *enumerate(piece, length)))
        elif piece is ONE:
            stretches[-1] = (length + 1, wanted)
        else:
            stretches.append((0, ()))
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


class _Branch(Struct, frozen=True, gc=False):
    """Patterns with wildcards.

    ``suffixes`` are those with one star, at their beginning: one call tests all of them. A text
    that another one matches begins with one of ``heads``.
    """

    suffixes: tuple[str, ...]
    heads: tuple[str, ...]
    ends: tuple[tuple[str, str, int], ...]  # the others with one star
    others: tuple[_Glob, ...]

    def rest_matches(self, text: str) -> bool:
        """True if one that is no suffix matches the whole text."""
        for head, tail, shortest in self.ends:
            if text.startswith(head) and text.endswith(tail) and len(text) >= shortest:
                return True
        return any(glob.matches(text) for glob in self.others) if self.others else False


class Globs(Struct, frozen=True, gc=False):
    """Several patterns; literal ones cost one look-up together."""

    literals: Container[str]
    letters: dict[str, _Branch]
    others: _Branch

    def matches(self, text: str) -> bool:
        """True if one of them matches the whole text."""
        if text in self.literals:
            return True
        branch = self.others
        if self.letters:
            branch = self.letters.get(text[:1], branch)
        return text.endswith(branch.suffixes) or (
            text.startswith(branch.heads) and branch.rest_matches(text)
        )


_NO_LETTERS: Final[dict[str, _Branch]] = {}
_NO_BRANCH: Final = _Branch((), (), (), ())


def globs_of(patterns: Iterable[Pattern]) -> Globs:
    """The patterns, prepared for a test of texts."""
    literals: list[str] = []
    wild: list[Pattern] = []
    for pieces in patterns:
        if any(isinstance(piece, Wild) for piece in pieces):
            wild.append(pieces)
        else:
            literals.append(_parts(pieces)[0])
    if len(wild) <= _FEW:
        return Globs(lookup(literals), _NO_LETTERS, _branch(wild) if wild else _NO_BRANCH)
    letters = {_head_of(pieces)[:1] for pieces in wild} - {""}
    by_letter = {
        letter: _branch([p for p in wild if _head_of(p)[:1] in ("", letter)])
        for letter in letters
    }
    headless = [pieces for pieces in wild if not _head_of(pieces)]
    return Globs(lookup(literals), by_letter, _branch(headless))


def _head_of(pieces: Pattern) -> str:
    return pieces[0] if isinstance(pieces[0], str) else ""


def _branch(patterns: Sequence[Pattern]) -> _Branch:
    suffixes: list[str] = []
    ends: list[tuple[str, str, int]] = []
    others: list[_Glob] = []
    heads: dict[str, None] = {}
    for pieces in patterns:
        head, *rest = _parts(pieces)
        has_one_star = len(rest) == 1 and ONE not in pieces
        if has_one_star and not head:
            suffixes += rest
        else:
            heads[_head_of(pieces)] = None
            if has_one_star:
                ends.append((head, rest[0], len(head) + len(rest[0])))
            else:
                others.append(_glob(pieces))
    return _Branch(tuple(suffixes), tuple(heads), tuple(ends), tuple(others))


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


class _Arn(Struct, frozen=True, gc=False):
    """A pattern of ARNs: the parts that must be equal, and those that must match."""

    literals: tuple[tuple[int, str], ...]
    globs: tuple[tuple[int, _Glob], ...]

    def matches(self, parts: Sequence[str]) -> bool:
        """True if it matches the six parts of an ARN."""
        for at, text in self.literals:
            if parts[at] != text:
                return False
        return all(glob.matches(parts[at]) for at, glob in self.globs) if self.globs else True


def _arn(pieces: Pattern) -> _Arn | None:
    """The pattern; ``None`` if it can match no ARN, having too few or too many parts."""
    segments = _segments(pieces)
    if len(segments) != 6:
        return None
    globs = [(at, _glob(part)) for at, part in enumerate(segments) if part != [MANY]]
    literals = tuple((at, glob.text) for at, glob in globs if isinstance(glob, _Literal))
    others = tuple((at, glob) for at, glob in globs if not isinstance(glob, _Literal))
    return _Arn(literals, others)


def is_arn_pattern(pieces: Pattern) -> bool:
    """True if the pattern can match ARNs: ``arn``, then five parts or a wildcard for some."""
    segments = _segments(pieces)
    has_wildcard = any(isinstance(piece, Wild) for piece in pieces)
    return _glob(segments[0]).matches("arn") and (len(segments) == 6 or has_wildcard)


class Arns(Struct, frozen=True, gc=False):
    """Several ARN patterns, compared part by part.

    A star does not reach across the first five colons, so a pattern of fewer parts never
    matches
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html).
    """

    patterns: tuple[_Arn, ...]
    when_none_matches: bool | None

    def matches(self, text: str) -> bool | None:
        """True if one of them matches.

        ``None`` for a text that is not an ARN, and if none matches and one of them is not an
        ARN pattern.
        """
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            return None
        for pattern in self.patterns:
            if pattern.matches(parts):
                return True
        return self.when_none_matches


def arns_of(patterns: Iterable[Pattern]) -> Arns:
    """The ARN patterns, prepared for a test of texts."""
    pieces_of_each = tuple(patterns)
    compiled = map(_arn, pieces_of_each)
    when_none_matches = False if all(map(is_arn_pattern, pieces_of_each)) else None
    return Arns(tuple(one for one in compiled if one is not None), when_none_matches)
