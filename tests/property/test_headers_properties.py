import re

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.message.headers import (
    MAX_LINE_OCTETS,
    HeaderError,
    first_long_line,
    line_end_problem,
    normalize_line_ends,
    split_message,
)
from smtpgate.core.message.intent import IntentError, take_intent

# Octets that make fields, folds and ends of blocks likely, and near misses of them.
PIECES = [b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"a", b"From", b"X-SES-FROM-ARN", b"\xff"]
PIECES += [b">", b"\v", b"\0"]
_GAP = re.compile(rb"^([^ \t:\r\n]+)[ \t]+:", re.MULTILINE)


def without_gaps(octets: bytes) -> bytes:
    """The octets with no white space before the colon of a field's name."""
    return _GAP.sub(rb"\1:", octets)


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
    sent = without_gaps(message.removesuffix(body)) + body
    assert sent in (head + b"\r\n" + body, head, head.removesuffix(b"\r\n"))
    assert b"\r\n\r\n" not in head
    assert all(field.name == field.name.strip().lower() for field in cut.block.fields)


@given(st.lists(fields, min_size=1, max_size=8), st.binary(max_size=40))
def test_octets_survive_but_for_white_space_before_the_colon(
    raw: list[bytes], body: bytes
) -> None:
    message = split_message(b"".join(raw) + b"\r\n" + body)
    assert list(message.block.raw_parts) == [without_gaps(field) for field in raw]
    assert bytes(message.body) == body


@given(st.lists(fields, min_size=1, max_size=8))
def test_taking_twice_is_taking_once_and_leaves_the_rest(raw: list[bytes]) -> None:
    block = split_message(b"".join(raw)).block
    try:
        _, left = take_intent(block)
    except IntentError:
        return
    assert list(left.raw_parts) == [
        without_gaps(r) for r in raw if not r.lower().startswith(b"x-ses-")
    ]
    intent, again = take_intent(left)
    assert again is left
    assert intent.source_arn is intent.from_arn is intent.return_path_arn is None


@st.composite
def near_x_ses_names(draw: st.DrawFn) -> bytes:
    """``X-SES-FROM-ARN`` in any case, with an octet or a fold or two that do not belong."""
    name = bytearray(b"X-SES-FROM-ARN")
    for at in draw(st.sets(st.integers(0, len(name) - 1))):
        name[at : at + 1] = name[at : at + 1].swapcase()
    text = bytes(name)
    stray = st.sampled_from([b"\r\n ", b"\r\n\t", b"", b" ", b"\t"])
    for extra in draw(st.lists(stray | st.binary(min_size=1, max_size=1), max_size=2)):
        at = draw(st.sampled_from([0, len(text)]) | st.integers(0, len(text)))
        text = text[:at] + extra + text[at:]
    return text


@given(near_x_ses_names())
@example(b">X-SES-FROM-ARN")
@example(b'"X-SES-FROM-ARN"')
@example(b"x-Ses-From-arn \t")
def test_no_spelling_of_an_x_ses_field_leaves(name: bytes) -> None:
    """None that a program could take for the field: ends and white space do not count."""
    try:
        block = split_message(b"A: b\r\n" + name + b": \r\nSubject: x\r\n\r\n").block
    except HeaderError:
        return
    try:
        left = b"".join(take_intent(block)[1].raw_parts)
    except IntentError:  # a colon in the name: the field is read, and refused
        return
    for line in left.split(b"\r\n"):
        said = re.sub(rb"[^A-Za-z0-9._-]", b"", line.partition(b":")[0]).lower()
        assert not said.startswith(b"x-ses-") or line[:1] in b" \t"


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


lengths = st.integers(0, 20) | st.integers(MAX_LINE_OCTETS - 3, MAX_LINE_OCTETS + 3)


@given(st.lists(lengths, max_size=12), st.booleans())
@example([MAX_LINE_OCTETS], False)
@example([MAX_LINE_OCTETS + 1], False)
@example([1, MAX_LINE_OCTETS, MAX_LINE_OCTETS + 1, 5000], True)
def test_the_first_long_line_is_found_wherever_it_is(sizes: list[int], is_ended: bool) -> None:
    lines = [b"x" * size for size in sizes]
    body = b"\r\n".join(lines) + (b"\r\n" if is_ended else b"")
    at = first_long_line(b"head" + body, 4)
    long = [number for number, size in enumerate(sizes) if size > MAX_LINE_OCTETS]
    if not long:
        assert at is None
    else:
        assert at == 4 + sum(size + 2 for size in sizes[: long[0]])
