"""A message that is read while it arrives is the message that is read at once."""

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.message.body import StoredMessage, beginning_of, pieces_of
from smtpgate.core.message.reading import ReadMessage, read_message
from smtpgate.core.reply import Reject
from smtpgate.core.scan import MessageScan
from smtpgate.core.signing import body_hash
from smtpgate.core.upstream.commands import wire_pieces
from smtpgate.smtp.unstuffing import Unstuffing, unstuffed
from tests.property.test_intake_properties import cut_at
from tests.support.bodies import Pieces

# Two of them are more than a line may have.
_HALF_A_LINE = b"x" * 499

HEAD = b"From: a@ses-example.com\r\n\r\n"
heads = st.sampled_from(
    [
        *[HEAD] * 30,
        b"From: a@ses-example.com\r\nSubject: 8-bit \xc3\xa4\r\n\r\n",
        b"From: a@ses-example.com\r\nX-Long: " + b"y " * 800 + b"\r\n\r\n",
        b"From: a@ses-example.com\r\n" + b"X-Many: " + b" z\r\n" * 400 + b"\r\n",
        b"From: a@ses-example.com\r\n",  # no empty line
        b"From: a@ses-example.com\n\n",
        b"\r\n",
        b".From: a@ses-example.com\r\n\r\n",
        b"",
    ]
)
bodies = st.lists(
    st.sampled_from(
        [b"\r\n"] * 4
        + [b".", b"..", b"\r\n.\r\n", b"\r\n..\r\n", b" ", b"\t", b"a", b"\xff", b" \r\n\r\n"]
        + [_HALF_A_LINE] * 3
        + [b" " * 700, b"\r\n" * 400, b"b c\r\n" * 150, b"." * 1200]
    ),
    max_size=16,
).map(b"".join)
ill_ended = st.sampled_from([b""] * 40 + [b"\n", b"\r", b"\0", b"\n.", b"\r.", b"\r" * 1200])
bodies = st.tuples(bodies, ill_ended, bodies, ill_ended).map(b"".join)
cuts = st.lists(st.integers(0, 20_000), max_size=12)


def arrived(
    wire: bytes, cuts: list[int], *, normalize: bool = False, piece_octets: int = 1000
) -> StoredMessage:
    unstuffing = Unstuffing(normalize_bare_lf=normalize, piece_octets=piece_octets)
    scan, file = MessageScan(), Pieces()
    for part in cut_at(wire, cuts):
        file.kept += map(scan.feed, unstuffing.feed(bytearray(part)))
    return scan.conclude(file)


def outcome(
    message: bytes | StoredMessage, *, pass_long_lines: bool
) -> tuple[ReadMessage | None, str]:
    try:
        read = read_message(message, smtputf8=True, pass_long_lines=pass_long_lines)
    except Reject as refusal:
        return None, f"{refusal.reason} {refusal.reply} {refusal.detail}"
    return read, ""


@given(heads, bodies, cuts, st.sampled_from([4, 9, 31, 1100]), st.booleans(), st.booleans())
@example(HEAD, b"x" * 1099 + b"\r\n.", [], 1100, False, True)
@example(HEAD, b"\n.\r\n.\r\n" * 3, [], 4, True, True)
@example(HEAD, b"a\n.\nb\n..c\n", [], 4, True, True)
@example(HEAD, b"one  two \t three \r\n \t\r\nfour \r\n  \r\n", [], 4, False, True)
@example(HEAD, b"three lines\r\n" * 3 + b"x" * 999, [], 4, False, True)
@example(
    HEAD,
    b"x" * 999 + b"\r\nthen a short line and a long one\r\n" + b"x" * 999,
    [],
    9,
    False,
    True,
)
@example(HEAD, b"8-bit at first \xff, and then ASCII", [], 4, False, False)
@example(HEAD, b"a bare CR \r, and then a bare LF\n", [], 9, False, False)
@example(HEAD, b"a bare LF \n, and then a NUL \0", [], 9, False, False)
@example(HEAD, b"Hello.\r\n", [len(HEAD) - 2], 4, False, False)
def test_any_cut_of_the_octets_is_the_message_that_is_read_at_once(
    head: bytes,
    body: bytes,
    cuts: list[int],
    piece_octets: int,
    normalize: bool,
    pass_long_lines: bool,
) -> None:
    wire = head + body
    if wire and not wire.endswith(b"\r\n"):
        wire += b"\r\n"  # what comes before the final dot
    whole = unstuffed(wire, normalize_bare_lf=normalize)
    stored = arrived(wire, cuts, normalize=normalize, piece_octets=piece_octets)
    assert len(stored) == len(whole)
    assert stored.head + b"".join(pieces_of(stored.body)) == whole

    one, refusal = outcome(whole, pass_long_lines=pass_long_lines)
    other, other_refusal = outcome(stored, pass_long_lines=pass_long_lines)
    assert other_refusal == refusal
    if one is None or other is None:
        return
    assert isinstance(one.body, memoryview)
    assert (other.block, other.authors) == (one.block, one.authors)
    assert (other.is_8bit, other.long_line) == (one.is_8bit, one.long_line)
    assert other.has_utf8_header == one.has_utf8_header
    assert beginning_of(other.body, 3000) == beginning_of(one.body, 3000)
    assert stored.body.relaxed_hash == body_hash(one.body)
    assert b"".join(wire_pieces([stored.head, other.body])) == b"".join(wire_pieces([whole]))


def test_a_header_block_that_is_too_large_is_refused_and_not_kept() -> None:
    wire = b"From: a@ses-example.com\r\n" + b"X-Large: 1\r\n" * 30_000 + b"\r\nHello.\r\n"
    stored = arrived(wire, [])
    assert len(stored.head) < 257 * 1024
    assert outcome(stored, pass_long_lines=True) == outcome(wire, pass_long_lines=True)
    assert "larger than" in outcome(stored, pass_long_lines=True)[1]
