from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.headers import (
    HeaderError,
    line_end_problem,
    normalize_line_ends,
    split_message,
)
from smtpgate.core.intent import IntentError, take_intent

# Octets that make fields, folds and ends of blocks likely, and near misses of them.
PIECES = [b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"a", b"From", b"X-SES-FROM-ARN", b"\xff"]
octets = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join) | st.binary(max_size=60)

names = st.sampled_from(
    [b"From", b"to", b"X-Any", b"X-SES-Source-ARN", b"x-ses-FROM-arn", b"X-SES-y", b"X-SE"]
)
lines = st.lists(
    st.sampled_from([b"", b"a", b" b ", b"\tc", b":", b"\xc3\xbc", b"arn:aws:"]), max_size=4
).map(b"".join)
fields = st.builds(
    lambda name, gap, folds: name + gap + b":" + b"\r\n ".join(folds) + b"\r\n",
    names,
    st.sampled_from([b"", b" ", b"\t "]),
    st.lists(lines, min_size=1, max_size=3),
)


@given(octets)
@example(b"")
@example(b"\r\n")
@example(b"a:\r\n \r\n\r\n\r\n")
def test_any_octets_are_a_message_or_an_error(message: bytes) -> None:
    try:
        cut = split_message(message)
    except HeaderError:
        return
    head, body = b"".join(cut.block.raw_parts), bytes(cut.body)
    assert message in (head + b"\r\n" + body, head, head.removesuffix(b"\r\n"))
    assert b"\r\n\r\n" not in head
    assert all(field.name == field.name.strip().lower() for field in cut.block.fields)


@given(st.lists(fields, min_size=1, max_size=8), st.binary(max_size=40))
def test_untouched_octets_survive(raw: list[bytes], body: bytes) -> None:
    message = split_message(b"".join(raw) + b"\r\n" + body)
    assert list(message.block.raw_parts) == raw
    assert bytes(message.body) == body


@given(st.lists(fields, min_size=1, max_size=8))
def test_taking_twice_is_taking_once_and_leaves_the_rest(raw: list[bytes]) -> None:
    block = split_message(b"".join(raw)).block
    try:
        _, left = take_intent(block)
    except IntentError:
        return
    assert list(left.raw_parts) == [r for r in raw if not r.lower().startswith(b"x-ses-")]
    intent, again = take_intent(left)
    assert again is left
    assert intent.source_arn is intent.from_arn is intent.return_path_arn is None


@given(octets)
def test_line_ends_are_clean_exactly_when_no_octet_of_them_stands_alone(message: bytes) -> None:
    rest = message.replace(b"\r\n", b"")
    is_clean = not set(rest) & {0, 10, 13}
    assert (line_end_problem(message) is None) == is_clean


@given(octets)
def test_normalizing_adds_a_cr_before_each_bare_lf_and_nothing_else(message: bytes) -> None:
    normalized = normalize_line_ends(message)
    want = b"".join(
        b"\r\n" if octet == 10 and message[at - 1 : at] != b"\r" else bytes([octet])
        for at, octet in enumerate(message)
    )
    assert normalized == want
    assert normalize_line_ends(normalized) == normalized
