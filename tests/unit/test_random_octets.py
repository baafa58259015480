"""Octets that are fetched ahead are given out once, also beside a forked process."""

import os

from smtpgate.random_octets import RandomOctets


def test_octets_are_given_out_once_and_as_many_as_wanted() -> None:
    octets = RandomOctets()
    taken = [octets.take(16) for _ in range(2000)]
    assert {len(one) for one in taken} == {16}
    assert len(set(taken)) == len(taken)
    joined = b"".join(taken)
    assert not any(joined.count(one[:8]) > 1 for one in taken[::100])
    assert [len(octets.take(count)) for count in (0, 1, 4095, 4096, 5000, 6)] == [
        *(0, 1, 4095),
        *(4096, 5000, 6),
    ]


def test_a_forked_process_gives_out_others() -> None:
    octets = RandomOctets()
    first = octets.take(16)  # some were fetched ahead
    reading, writing = os.pipe()
    process_id = os.fork()
    if not process_id:
        os.write(writing, octets.take(16))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        of_child = pipe.read()
    assert os.waitpid(process_id, 0)[1] == 0
    assert len({first, of_child, octets.take(16)}) == 3
