from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.smtp.intake import Intake, MessageIntake
from smtpgate.smtp.unstuffing import Unstuffing, unstuffed

# Octets that make final dots, and near misses of them, likely.
dotty = st.lists(
    st.sampled_from(
        [b"\r\n", b".", b"\n", b"\r", b"a", b"..", b"\r\n.", b".\r\n", b"\r\n.\r\n"]
    ),
    max_size=30,
).map(b"".join)


def stuffed(message: bytes) -> bytes:
    """As a client writes it (RFC 5321 §4.5.2), with the final dot."""
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    octets = message.replace(b"\r\n.", b"\r\n..")
    return (b"." if octets.startswith(b".") else b"") + octets + b".\r\n"


def cut_at(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    return [octets[a:b] for a, b in pairwise(places)]


@given(dotty, st.binary(max_size=8), st.lists(st.integers(0, 500), max_size=8))
@example(b"", b"", [])
@example(b".", b"QUIT\r\n", [1, 2])
def test_the_final_dot_is_found_however_the_octets_arrive(
    message: bytes, behind: bytes, cuts: list[int]
) -> None:
    wire = stuffed(message)
    intake = Intake(10**6)
    taker = MessageIntake(intake, 10**6, "a")
    buffer = bytearray()
    size = None
    for piece in cut_at(wire + behind, cuts):
        buffer += piece
        if size is None:
            size = taker.look(buffer)
    assert size == len(wire) - 3
    assert bytes(buffer[size + 3 :]) == behind
    assert taker.has_dots or unstuffed(wire[:-3]) == wire[:-3]
    assert intake.taken == size
    taker.release()
    assert intake.taken == 0


@given(dotty, st.binary(max_size=8), st.lists(st.integers(0, 500), max_size=8))
def test_the_final_dot_is_found_though_the_octets_before_it_go_to_a_file(
    message: bytes, behind: bytes, cuts: list[int]
) -> None:
    wire = stuffed(message)
    intake = Intake(10**6, spool_octets=5, spool_limit=10**6)
    taker = MessageIntake(intake, 10**6, "a")
    buffer, file = bytearray(), bytearray()
    size = None
    for piece in cut_at(wire + behind, cuts):
        buffer += piece
        if size is None:
            size = taker.look(buffer)
            if size is None and taker.goes_to_file and len(buffer) > 4:
                taker.moved(len(buffer) - 4)
                file += buffer[:-4]
                del buffer[:-4]
    assert size is not None
    assert bytes(file + buffer[:size]) == wire[:-3]
    assert bytes(buffer[size + 3 :]) == behind
    assert intake.taken == min(len(wire) - 3, 5)
    assert intake.spooled.taken == (len(wire) - 3 if taker.goes_to_file else 0)
    taker.release()
    assert (intake.taken, intake.spooled.taken, intake.files) == (0, 0, 0)


@given(dotty, st.binary(max_size=8), st.lists(st.integers(0, 500), max_size=8))
def test_a_message_that_is_too_long_is_read_to_its_end_and_not_kept(
    message: bytes, behind: bytes, cuts: list[int]
) -> None:
    wire = stuffed(b"x" * 20 + b"\r\n" + message)
    intake = Intake(10**6)
    taker = MessageIntake(intake, 10, "a")
    buffer = bytearray()
    size = None
    for piece in cut_at(wire + behind, cuts):
        buffer += piece
        if size is None:
            size = taker.look(buffer)
    assert taker.refusal == "message-octets"
    assert size is not None
    assert bytes(buffer[size + 3 :]) == behind
    taker.release()
    assert intake.taken == 0


def test_messages_beyond_the_bound_are_turned_away_until_there_is_room() -> None:
    intake = Intake(100)
    first, second = MessageIntake(intake, 1000, "a"), MessageIntake(intake, 1000, "b")
    assert first.look(bytearray(b"x" * 80)) is None
    assert second.look(bytearray(b"y" * 80)) is None
    assert (first.refusal, second.refusal) == (None, "inflight-octets")
    first.release()
    third = MessageIntake(intake, 1000, "a")
    third.look(bytearray(b"z" * 500))
    assert third.refusal is None  # alone, one message always fits


def test_an_empty_message_that_is_turned_away_ends_though_it_comes_in_parts() -> None:
    intake = Intake(100)
    first, empty = MessageIntake(intake, 1000, "a"), MessageIntake(intake, 1000, "b")
    assert first.look(bytearray(b"x" * 100)) is None
    buffer = bytearray(b".\r")
    assert empty.look(buffer) is None
    assert empty.refusal == "inflight-octets"
    buffer += b"\nQUIT\r\n"
    assert empty.look(buffer) == 0


def test_a_message_that_is_turned_away_holds_nothing_though_more_of_it_comes() -> None:
    intake = Intake(100)
    first, second = MessageIntake(intake, 1000, "a"), MessageIntake(intake, 60, "b")
    buffer = bytearray(b"x" * 50)
    assert second.look(buffer) is None
    buffer += b"x" * 50
    assert second.look(buffer) is None
    assert (second.refusal, intake.taken, len(buffer)) == ("message-octets", 0, 4)
    assert first.look(bytearray(b"y" * 90)) is None
    assert first.refusal is None


def test_a_message_that_began_in_the_reserve_always_fits_once_it_is_the_only_one() -> None:
    intake = Intake(400_000, share=0.5, reserve=130_000)
    others = [MessageIntake(intake, 10**6, account) for account in ("a", "b", "c")]
    for number, other in enumerate(others):
        other.look(bytearray(130_000 >> number))  # nearly what its share lets each have
    lone = MessageIntake(intake, 10**6, "d")
    lone.look(bytearray(60_000))
    assert (lone.refusal, intake.reserve.taken) == (None, 60_000)
    for other in others:
        other.release()
    lone.look(bytearray(300_000))  # more than the share of one account
    assert (lone.refusal, intake.taken, intake.reserve.taken) == (None, 300_000, 0)
    lone.release()
    assert intake.taken == 0


def test_a_small_message_leaves_a_full_reserve_for_room_that_has_come_elsewhere() -> None:
    intake = Intake(400_000, reserve=60_000)
    large = MessageIntake(intake, 10**6, "a")
    large.look(bytearray(340_000))
    small = [MessageIntake(intake, 10**6, account) for account in ("b", "c")]
    for one in small:
        one.look(bytearray(30_000))
    assert intake.reserve.taken == 60_000
    large.release()
    small[0].look(bytearray(50_000))
    assert (small[0].refusal, intake.taken, intake.reserve.taken) == (None, 80_000, 30_000)


# The steps of sessions: one of a few messages of one of a few accounts grows, or ends.
steps = st.lists(
    st.tuples(st.integers(0, 7), st.one_of(st.none(), st.integers(1, 120_000))), max_size=60
)


@given(steps, st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0, 50_000]))
def test_octets_in_flight_are_counted_exactly_and_shared(
    steps: list[tuple[int, int | None]], share: float, reserve: int
) -> None:
    limit = 400_000
    intake = Intake(limit, share=share, reserve=reserve)
    messages: dict[int, tuple[MessageIntake, bytearray]] = {}
    for number, octets in steps:
        account = f"account {number % 3}"
        if octets is None:
            if number in messages:
                messages.pop(number)[0].release()
            continue
        fresh = (MessageIntake(intake, 300_000, account), bytearray())
        taker, buffer = messages.setdefault(number, fresh)
        others = intake.taken
        buffer += b"x" * octets
        taker.look(buffer)
        if not taker.refusal and intake.taken > others:
            alone = len([one for one, _ in messages.values() if one.taken]) == 1
            assert alone or intake.taken <= limit
        assert intake.taken == sum(one.taken for one, _ in messages.values())
    for taker, _ in messages.values():
        taker.release()
    assert intake.taken == 0


@given(steps, st.sampled_from([0.25, 0.5, 1.0]), st.integers(1, 4))
def test_octets_in_files_are_counted_exactly_and_shared(
    steps: list[tuple[int, int | None]], share: float, max_files: int
) -> None:
    limit = 400_000
    intake = Intake(
        10**9, share=share, spool_octets=1000, spool_limit=limit, max_files=max_files
    )
    messages: dict[int, tuple[MessageIntake, bytearray]] = {}
    for number, octets in steps:
        if octets is None:
            if number in messages:
                messages.pop(number)[0].release()
            continue
        fresh = (MessageIntake(intake, 300_000, f"account {number % 3}"), bytearray())
        taker, buffer = messages.setdefault(number, fresh)
        others = intake.spooled.taken
        buffer += b"x" * octets
        taker.look(buffer)
        takers = [one for one, _ in messages.values()]
        alone = len([one for one in takers if one.spooled]) == 1
        assert alone or intake.spooled.taken <= max(limit, others)
        assert intake.spooled.taken == sum(one.spooled for one in takers)
        assert intake.files == len([one for one in takers if one.spooled]) <= max_files
        assert all(one.taken <= 1000 for one in takers)
    for taker, _ in messages.values():
        taker.release()
    assert (intake.taken, intake.spooled.taken, intake.files) == (0, 0, 0)


@given(st.integers(1, 6), st.integers(1, 30))
def test_there_is_room_for_one_more_account_however_greedy_the_others_are(
    accounts: int, messages: int
) -> None:
    intake = Intake(1_000_000, share=0.5)
    for account in range(accounts):
        for _ in range(messages):
            taker = MessageIntake(intake, 200_000, f"greedy {account}")
            for size in range(1000, 30_000, 1000):
                if taker.refusal is None:
                    taker.look(bytearray(b"x" * size))
    new_account = MessageIntake(intake, 1_000_000, "newcomer")
    new_account.look(bytearray(b"x" * (1_000_000 >> (accounts + 1))))
    assert new_account.refusal is None


def read_by_lines(message: bytes) -> bytes:
    """A second reading: end each line with CRLF, then take one dot off those that have more."""
    lines = message.replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join(
        line[1:] if line.startswith(b".") and len(line) > 1 else line for line in lines
    )


@given(dotty)
@example(b"a\n..hidden\nb\r\n")
@example(b"a\n.\nMAIL FROM:<a@example.com>\n.\r\nb\r\n")
@example(b"a\n.\r\n.\r\nb\r\n")
def test_stuffed_dots_go_where_lines_end_once_the_line_ends_are_whole(message: bytes) -> None:
    message += b"\r\n"  # what comes before the final dot
    assert unstuffed(message, normalize_bare_lf=True) == read_by_lines(message)


@given(dotty, st.lists(st.integers(0, 500), max_size=8), st.integers(4, 9), st.booleans())
def test_dots_are_taken_off_alike_however_the_octets_arrive(
    message: bytes, cuts: list[int], piece_octets: int, normalize: bool
) -> None:
    unstuffing = Unstuffing(normalize_bare_lf=normalize, piece_octets=piece_octets)
    pieces = [piece for part in cut_at(message, cuts) for piece in unstuffing.feed(part)]
    whole = unstuffed(message, normalize_bare_lf=normalize)
    assert b"".join([*pieces, unstuffing.rest()]) == whole


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"..x", b"a\n.x"])
def test_dots_are_taken_off_a_large_message_as_off_a_small_one(end: bytes) -> None:
    lines = b"a\n..b\r\n.\n.c\n"
    message = lines * 10_000
    wanted = unstuffed(lines, normalize_bare_lf=True) * 10_000
    tail = unstuffed(end, normalize_bare_lf=True)
    assert unstuffed(message + end, normalize_bare_lf=True) == wanted + tail


@given(dotty)
def test_a_message_with_crlf_alone_is_read_alike_with_and_without_normalizing(
    message: bytes,
) -> None:
    message = message.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    wire = stuffed(message).removesuffix(b".\r\n")
    assert unstuffed(wire) == unstuffed(wire, normalize_bare_lf=True) == message
