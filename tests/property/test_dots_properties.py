from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.message.dots import find_with_dot, replace_dots

dotty = st.lists(
    st.sampled_from([b"\r\n", b".", b"\n", b"\r", b"a", b"\r\n.", b"aaaaaaaa"])
).map(b"".join)
windows = st.integers(1, 8)
_LONG = b"a" * 20  # fewer octets are searched without windows


@given(
    dotty, st.sampled_from([b".", b"\r\n.", b"\r\n.\r\n", b"a."]), st.integers(0, 40), windows
)
@example(
    _LONG + b".a\r\n.\r\n", b"\r\n.\r\n", 0, 4
)  # its dot is the first one behind the window
@example(b".\r\n." + _LONG, b"\r\n.", 2, 8)  # it begins before the start
def test_a_text_with_a_dot_is_found_where_it_is(
    octets: bytes, text: bytes, start: int, window: int
) -> None:
    at = octets.find(text, start)
    assert find_with_dot(octets, text, start, window=window) == at
    assert find_with_dot(bytearray(octets), text, start, window=window) == at


@given(dotty, st.sampled_from([b"", b".."]), windows)
@example(_LONG + b".aaa\r\n.", b"", 4)  # the window ends with CR, with LF, before the dot
@example(_LONG + b".aa\r\n.", b"", 4)
@example(_LONG + b".a\r\n.", b"", 4)
def test_each_dot_at_the_beginning_of_a_line_is_replaced(
    octets: bytes, by: bytes, window: int
) -> None:
    assert replace_dots(octets, by, window=window) == octets.replace(b"\r\n.", b"\r\n" + by)
