"""Our reading of IDNA2008 against that of the package ``idna``."""

import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.idna import LabelError, from_a_label, to_a_label

# Characters of the contextual rules, their neighbours, and of each direction.
TELLING = (
    "\u00b7\u0375\u05f3\u05f4\u30fb\u0660\u06f0\u200c\u200d\u094d\u0915\u0628\u0627\u064b\u0300"
    "l-aßςé9αא日ひカー\u3005\u0640\u302e\u0903"
)
# Every character but most of Han, of the Hangul syllables, of old scripts and of private use.
EVERY = [
    chr(code)
    for codes in (
        range(0x80, 0x3500),
        range(0x9F00, 0xAD00),
        range(0xD700, 0xD800),
        range(0xF900, 0x12000),
        range(0x16000, 0x17010),
        range(0x1AFF0, 0x20010),
        range(0xE0000, 0xE1000),
    )
    for code in codes
    if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
]


def ours(label: str) -> str | None:
    try:
        return to_a_label(label)
    except LabelError:
        return None


def theirs(label: str) -> str | None:
    try:
        return idna.alabel(label).decode("ascii")
    except idna.IDNAError:
        return None


@pytest.mark.slow
def test_every_character_alone_is_read_as_by_idna() -> None:
    # We fold letter case and put into form C what they refuse.
    small = [c for c in EVERY if c == unicodedata.normalize("NFC", c.lower())]
    differ = [hex(ord(c)) for c in small if ours(c) != theirs(c)]
    assert differ == []


@given(st.text(TELLING, min_size=1, max_size=6).filter(lambda text: not text.isascii()))
def test_labels_with_contexts_are_read_as_by_idna(label: str) -> None:
    normal = unicodedata.normalize("NFC", label)
    assert ours(label) == theirs(normal)


@given(
    st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs", "Cn", "Lu", "Lt"]))
    .map(lambda text: unicodedata.normalize("NFC", text)[:12])
    .filter(lambda text: text == text.lower() and not text.isascii())
)
def test_other_labels_are_read_as_by_idna(label: str) -> None:
    assert ours(label) == theirs(label)


@given(st.text(TELLING, min_size=1, max_size=6).filter(lambda text: not text.isascii()))
def test_an_a_label_reads_back_as_its_label(label: str) -> None:
    a_label = ours(label)
    if a_label is not None:
        assert to_a_label(from_a_label(a_label)) == a_label


# Each rule of RFC 5892's appendix A and of RFC 5893, kept and broken.
LABELS = [
    *(
        "क्\u200cष",
        "क्\u200dष",
        "क\u200dष",
        "ب\u064b\u200c\u064bب",
        "ب\u200cا",
        "ا\u200cب",
        "\u200cب",
    ),
    *("l·l", "l·a", "\u0375α", "\u0375a", "א׳", "a׳", "カ・カ", "a・b", "日・本", "\u3005・"),
    *("\u0660\u06f0", "ا\u0660", "ا\u06f0", "אב\u05b0", "א9", "אa", "aא", "9א", "א-"),
    *("-ä", "ä-", "ab--ä", "\u0301a", "äöü" * 20, "ä" * 59, "ä" * 64),
]


def test_labels_of_each_rule_are_read_as_by_idna() -> None:
    assert list(map(ours, LABELS)) == list(map(theirs, LABELS))
    valid = [label for label in LABELS if ours(label) is not None]
    assert 5 < len(valid) < len(LABELS) - 5


@pytest.mark.parametrize(
    "a_label", ["xn--abc-", "xn--", "xn--!", "xn--MGBA", "xn--ls8h", "xn--\xe4"]
)
def test_what_is_no_a_label_in_its_one_spelling_is_refused(a_label: str) -> None:
    with pytest.raises(LabelError):
        from_a_label(a_label)
