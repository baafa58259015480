"""A line between two processes: packets, what has no room, and the end."""

from collections.abc import Iterator

import pytest

from smtpgate.workers.line import PacketLine


@pytest.fixture
def ends() -> Iterator[tuple[PacketLine, PacketLine]]:
    ours, theirs = map(PacketLine, PacketLine.new_pair())
    yield ours, theirs
    ours.close()
    theirs.close()


def received(line: PacketLine) -> bytes | None:
    packet = line.receive()
    return None if packet is None else bytes(packet)


def test_packets_keep_their_bounds_and_their_order(ends: tuple[PacketLine, PacketLine]) -> None:
    ours, theirs = ends
    packets = [b"one", b"2", bytes(100_000), b"last"]
    assert all(ours.send(packet) for packet in packets[:2])
    assert [received(theirs), received(theirs), received(theirs)] == [b"one", b"2", b""]
    for packet in packets[2:]:
        assert ours.send(packet)
        assert received(theirs) == packet


def test_a_packet_without_room_is_refused_and_the_next_ones_pass(
    ends: tuple[PacketLine, PacketLine],
) -> None:
    ours, theirs = ends
    assert not ours.send(bytes(200_000)), "longer than any packet"
    sent = 0
    while ours.send(bytes(1000)):
        sent += 1
        assert sent < 10_000
    assert sent
    assert received(theirs) == bytes(1000)
    while received(theirs):
        pass
    assert ours.send(b"there is room again")


def test_what_was_sent_before_the_end_is_received_and_then_the_end(
    ends: tuple[PacketLine, PacketLine],
) -> None:
    ours, theirs = ends
    assert theirs.send(b"never read")
    assert ours.send(b"one")
    assert ours.send(b"two")
    ours.close()  # with an unread packet, as a process that is killed
    assert [received(theirs) for _ in range(4)] == [b"one", b"two", None, None]
    with pytest.raises(ConnectionError):
        theirs.send(b"too late")
    theirs.close()
    with pytest.raises(ConnectionError):
        theirs.send(b"too late")
