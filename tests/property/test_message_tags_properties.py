"""Tags of messages: what is written well is read as it is, and anything else is refused."""

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.message.event_fields import TagError, tags_of

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9_.@-]{1,12}", fullmatch=True)
SPACES = st.sampled_from(["", " ", "\t ", "  "])


@given(st.lists(st.tuples(NAMES, VALUES, SPACES), min_size=1, max_size=50))
def test_tags_are_read_with_all_their_values_in_order(tags: list[tuple[str, str, str]]) -> None:
    text = ",".join(f"{gap}{name}{gap}={gap}{value}{gap}" for name, value, gap in tags)
    read = tags_of(text)
    assert [name for name, _ in read] == list(dict.fromkeys(name for name, _, _ in tags))
    for name, values in read:
        assert values == tuple(value for other, value, _ in tags if other == name)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_printable_words(text: str) -> None:
    try:
        read = tags_of(text)
    except TagError as error:
        problem = str(error)
    else:
        problem = ""
        assert all(name.isascii() and values for name, values in read)
    assert problem.isascii()
    assert problem.isprintable()
