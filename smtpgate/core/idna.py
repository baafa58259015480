"""Internationalised labels of domains, by IDNA2008: RFC 5891, RFC 5892 and RFC 5893.

Whether a character may stand in a label is derived from its Unicode properties. Python has most
of them; the rest is in the tables here. The core needs nothing that must be installed, so the
package ``idna`` is not used here; it is the second opinion in the tests.

Characters that need a context, such as the joiners of Persian and Indic words, are valid in
that context only. Only letter case is mapped: a label that other software would map to another
label is refused.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal

_MAX_LABEL_OCTETS: Final = 63  # RFC 1035 §2.3.4
_Property = Literal["valid", "context", "unstable", "disallowed"]

# RFC 5892 §2.6 (F): exceptions to the derivation.
_VALID: Final = frozenset("\u00df\u03c2\u06fd\u06fe\u0f0b\u3007")
_DISALLOWED: Final = frozenset("\u0640\u07fa\u302e\u302f\u3031\u3032\u3033\u3034\u3035\u303b")
_ARABIC_DIGITS: Final = frozenset(map(chr, range(0x0660, 0x066A)))
_EXTENDED_ARABIC_DIGITS: Final = frozenset(map(chr, range(0x06F0, 0x06FA)))
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_LETTER_DIGITS: Final = frozenset({"Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"})  # §2.1 (A)


def _characters(table: str) -> frozenset[str]:
    """The characters of a table of hexadecimal numbers and ranges."""
    found: set[str] = set()
    for piece in table.split():
        first, _, last = piece.partition("-")
        found.update(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return frozenset(found)


# RFC 5892 §2.3 (C), §2.4 (D) and §2.9 (I), as far as they are letters, digits or marks: those
# without a shape of their own, those of notations, and the letters of Hangul syllables.
_IGNORED: Final = _characters(
    "34f 115f-1160 17b4-17b5 180b-180d 180f 3164 fe00-fe0f ffa0 e0100-e01ef "
    "20d0-20ff 1d100-1d1ff 1d200-1d24f 1100-11ff a960-a97c d7b0-d7c6 d7cb-d7fb"
)
# The property Joining_Type of Unicode: letters that join on both sides, on their right, on
# their left. Transparent (T) are the marks.
_DUAL: Final = _characters(
    "620 626 628 62a-62e 633-63f 641-647 649-64a 66e-66f 678-687 69a-6bf 6c1-6c2 6cc 6ce "
    "6d0-6d1 6fa-6fc 6ff 712-714 71a-71d 71f-727 729 72b 72d-72e 74e-758 75c-76a 76d-770 772 "
    "775-777 77a-77f 7ca-7ea 841-845 848 84a-853 855 860 862-865 868 886 889-88d 88f 8a0-8a9 "
    "8af-8b0 8b3-8b8 8ba-8c8 1807 1820-1878 1887-18a8 18aa a840-a871 10ac0-10ac4 10ad3-10ad6 "
    "10ad8-10adc 10ade-10ae0 10aeb-10aee 10b80 10b82 10b86-10b88 10b8a-10b8b 10b8d 10b90 "
    "10bad-10bae 10d01-10d21 10d23 10ec3-10ec4 10ec6-10ec7 10f30-10f32 10f34-10f44 10f51-10f53 "
    "10f70-10f73 10f76-10f81 10fb0 10fb2-10fb3 10fb8 10fbb-10fbc 10fbe-10fbf 10fc1 10fc4 10fca "
    "1e900-1e943"
)
_RIGHT: Final = _characters(
    "622-625 627 629 62f-632 648 671-673 675-677 688-699 6c0 6c3-6cb 6cd 6cf 6d2-6d3 6d5 "
    "6ee-6ef 710 715-719 71e 728 72a 72c 72f 74d 759-75b 76b-76c 771 773-774 778-779 840 "
    "846-847 849 854 856-858 867 869-86a 870-882 88e 8aa-8ac 8ae 8b1-8b2 8b9 10ac5 10ac7 "
    "10ac9-10aca 10ace-10ad2 10add 10ae1 10ae4 10aef 10b81 10b83-10b85 10b89 10b8c 10b8e-10b8f "
    "10b91 10ba9-10bac 10d22 10ec2 10f33 10f54 10f74-10f75 10fb4-10fb6 10fb9-10fba 10fbd 10fc2-"
    "10fc3 10fc9"
)
_LEFT: Final = _characters("a872 10acd 10ad7 10d00 10fcb")
_MARKS: Final = frozenset({"Mn", "Me", "Cf"})


class LabelError(ValueError):
    """A label that no domain can have, or that could be read as another label."""


def to_a_label(label: str) -> str:
    """The A-label of an internationalised label (RFC 5891 §5). Raises LabelError."""
    if len(label) > _MAX_LABEL_OCTETS:
        raise LabelError("is too long")
    # Two small letters are those of SIGMA, and a letter k is that of KELVIN SIGN.
    if "\u03a3" in label or label.lower().isascii():
        raise LabelError("could be read as another label")
    label = unicodedata.normalize("NFC", label.lower())
    for at, character in enumerate(label):
        match _property(character):
            case "unstable":
                raise LabelError("could be read as another label")
            case "disallowed":
                raise LabelError("contains a character that domains cannot have")
            case "context" if not _CONTEXTS[character](label, at):
                raise LabelError("contains a character that is not valid in this context")
    problem = _problem(label)
    if problem is not None:
        raise LabelError(problem)
    a_label = as_a_label(label)
    if len(a_label) > _MAX_LABEL_OCTETS:
        raise LabelError("is too long")
    return a_label


def _problem(label: str) -> str | None:
    """The problem of a label of valid characters, or ``None`` (RFC 5891 §4.2.3)."""
    if label.startswith("-") or label.endswith("-") or label[2:4] == "--":
        return "has a hyphen where none is allowed"
    if unicodedata.category(label[0]).startswith("M"):
        return "begins with a combining mark"
    return None if _obeys_bidi_rule(label) else "mixes directions of writing"


def as_a_label(label: str) -> str:
    """The label in ASCII, without any check."""
    return label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")


def from_a_label(a_label: str) -> str:
    """The internationalised label of an A-label in lower case. Raises LabelError."""
    try:
        label = a_label[4:].encode("ascii").decode("punycode")
        if not label.isascii() and to_a_label(label) == a_label:
            return label
    except UnicodeError:
        pass
    raise LabelError("is not a canonical A-label")


@lru_cache(4096)
def _property(character: str) -> _Property:
    """The derived property of a character (RFC 5892 §3)."""
    if character in _VALID or (
        character.isascii() and (character.isalnum() or character == "-")
    ):
        return "valid"
    if character in _CONTEXTS:
        return "context"
    if character in _DISALLOWED or character in _IGNORED:
        return "disallowed"
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
    if folded != character:  # §2.2 (B)
        return "unstable"
    return "valid" if unicodedata.category(character) in _LETTER_DIGITS else "disallowed"


# -- characters that need a context (RFC 5892 Appendix A) --------------------------------------


def _may_not_join(label: str, at: int) -> bool:
    """ZERO WIDTH NON-JOINER: behind a virama, or between letters that would join (A.1)."""
    if _may_join(label, at):
        return True
    before, after = at - 1, at + 1
    while before >= 0 and _is_transparent(label[before]):
        before -= 1
    while after < len(label) and _is_transparent(label[after]):
        after += 1
    return (
        before >= 0
        and after < len(label)
        and (label[before] in _DUAL or label[before] in _LEFT)
        and (label[after] in _DUAL or label[after] in _RIGHT)
    )


def _is_transparent(character: str) -> bool:
    return unicodedata.category(character) in _MARKS and character not in (
        _NON_JOINER,
        _JOINER,
    )


def _may_join(label: str, at: int) -> bool:
    """ZERO WIDTH JOINER: behind a virama (A.2)."""
    return at > 0 and unicodedata.combining(label[at - 1]) == 9


def _is_between_ls(label: str, at: int) -> bool:
    """MIDDLE DOT: between two l, as in Catalan (A.3)."""
    return label[at - 1 : at] == "l" == label[at + 1 : at + 2]


def _is_before_greek(label: str, at: int) -> bool:
    """GREEK LOWER NUMERAL SIGN (A.4)."""
    return _is_named(label[at + 1 : at + 2], "GREEK ")


def _is_behind_hebrew(label: str, at: int) -> bool:
    """HEBREW PUNCTUATION GERESH and GERSHAYIM (A.5, A.6)."""
    return _is_named(label[at - 1 : at] if at else "", "HEBREW ")


def _is_with_japanese(label: str, _at: int) -> bool:
    """KATAKANA MIDDLE DOT: in a label that has Hiragana, Katakana or Han (A.7)."""
    scripts = ("HIRAGANA ", "KATAKANA LETTER ", "KATAKANA ITER", "KATAKANA VOICED ", "CJK UNI")
    return any(_is_named(c, *scripts) or c in "\u3005\u3007" for c in label)


def _is_named(character: str, *beginnings: str) -> bool:
    return bool(character) and unicodedata.name(character, "").startswith(beginnings)


def _without_extended(label: str, _at: int) -> bool:
    """ARABIC-INDIC DIGITS: not beside the extended ones (A.8)."""
    return _EXTENDED_ARABIC_DIGITS.isdisjoint(label)


def _without_arabic(label: str, _at: int) -> bool:
    """EXTENDED ARABIC-INDIC DIGITS: not beside the others (A.9)."""
    return _ARABIC_DIGITS.isdisjoint(label)


_CONTEXTS: Final[Mapping[str, Callable[[str, int], bool]]] = {
    _NON_JOINER: _may_not_join,
    _JOINER: _may_join,
    "\u00b7": _is_between_ls,
    "\u0375": _is_before_greek,
    "\u05f3": _is_behind_hebrew,
    "\u05f4": _is_behind_hebrew,
    "\u30fb": _is_with_japanese,
    **dict.fromkeys(_ARABIC_DIGITS, _without_extended),
    **dict.fromkeys(_EXTENDED_ARABIC_DIGITS, _without_arabic),
}


# -- right to left (RFC 5893 §2) ---------------------------------------------------------------

_NEUTRAL: Final = frozenset({"ES", "CS", "ET", "ON", "BN", "NSM"})


def _obeys_bidi_rule(label: str) -> bool:
    """True if the label obeys the rule; a label without right-to-left letters always does."""
    kinds = [unicodedata.bidirectional(character) for character in label]
    if not {"R", "AL", "AN"} & set(kinds):
        return True
    while kinds[-1] == "NSM":
        kinds.pop()
    found = set(kinds)
    if kinds[0] in ("R", "AL"):
        return (
            found <= {"R", "AL", "AN", "EN"} | _NEUTRAL
            and kinds[-1] in ("R", "AL", "AN", "EN")
            and not {"AN", "EN"} <= found
        )
    return False  # a left-to-right label must not contain a right-to-left letter
