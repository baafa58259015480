"""JSON of structs is what the standard library writes: the same text, in ASCII."""

import json

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from smtpgate.json_text import json_part, json_text

# Also halves of surrogate pairs: a client's octets may become such text.
ANY_TEXT = st.text(st.characters(), max_size=30)


class Thing(Struct, omit_defaults=True):
    name: str
    texts: list[str]
    number: float | int | None = None


@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=3), st.none() | st.integers() | st.floats(0, 1e6))
@example("\0\x1b\x7f\x9b\u202e\U0001f3d4", ["\ud83c"], 1e-7)
def test_the_text_is_ascii_and_is_read_as_it_was_written(
    name: str, texts: list[str], number: float | None
) -> None:
    text = json_text(Thing(name, texts, number))
    assert text.isascii()
    assert text.isprintable()
    facts = {"name": name, "texts": texts}
    assert json.loads(text) == (facts if number is None else facts | {"number": number})


@given(ANY_TEXT)
@example("\x7f")
def test_texts_are_escaped_as_the_standard_library_escapes_them(text: str) -> None:
    written = json_text(Thing(text, []))
    assert written == json.dumps({"name": text, "texts": []}, separators=(",", ":"))


class Whole(Struct):
    name: str
    part: Raw


@given(ANY_TEXT, ANY_TEXT)
@example("\ud83c", "plain")
@example("plain", "\ud83c")
@example("\ud83c", "\x7f\x9b")
def test_a_part_is_written_as_it_would_be_with_the_whole(name: str, text: str) -> None:
    part = json_part([text, Thing(text, [text])])
    written = json_text(Whole(name, part))
    known = {"name": name, "part": [text, {"name": text, "texts": [text]}]}
    assert written == json.dumps(known, separators=(",", ":"))
