"""The benchmark: load and sink agree, and each peer signs and delivers every message."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.bench.peers.direct import DIRECT
from tests.bench.peers.gate import GATE, GATE_2_WORKERS, GATE_IN_A_FLEET
from tests.bench.peers.haraka import HARAKA
from tests.bench.peers.load import Load
from tests.bench.peers.peer import Peer
from tests.bench.peers.postfix import POSTFIX_OPENDKIM, POSTFIX_RSPAMD
from tests.bench.peers.run import ED25519, RSA, Bench, Conditions, Effort, measure, open_bench
from tests.bench.peers.table import complaints

pytestmark = pytest.mark.integration

LIGHT = Load("light", connections=4, messages_each=2, rate_per_s=40)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench(Effort(seconds=0.25, repeats=1, extra=0)) as opened:
        yield opened


def _measure(bench: Bench, peer: Peer, load: Load, conditions: Conditions | None = None) -> int:
    """Fail if anything was lost; skip where the peer is not installed; the messages."""
    (row,) = measure(bench, [peer], [load], conditions)
    if row.skipped:
        pytest.skip(row.skipped)
    assert not complaints(row)
    (run,) = row.runs
    return run.delivered.messages


@pytest.mark.parametrize("size", ["4k", "64k", "1m"])
def test_every_message_of_the_load_reaches_the_sink(bench: Bench, size: str) -> None:
    assert _measure(bench, DIRECT, replace(LIGHT, size=size)) == 10


def test_the_load_speaks_tls_with_the_sink(bench: Bench) -> None:
    assert _measure(bench, DIRECT, LIGHT, Conditions(has_tls=True)) == 10


def test_a_load_as_fast_as_possible_ends_in_time(bench: Bench) -> None:
    assert _measure(bench, DIRECT, replace(LIGHT, rate_per_s=0)) > 10


def test_the_load_counts_recipients_that_the_sink_counts_too(bench: Bench) -> None:
    (row,) = measure(bench, [DIRECT], [replace(LIGHT, recipients=10)])
    assert [run.delivered.recipients for run in row.runs] == [100]


# The gate alone, and Postfix with OpenDKIM, do so in the tests below.
@pytest.mark.parametrize(
    "peer",
    [GATE_2_WORKERS, GATE_IN_A_FLEET, POSTFIX_RSPAMD, HARAKA],
    ids=lambda peer: peer.name,
)
def test_a_peer_signs_and_delivers_every_message(bench: Bench, peer: Peer) -> None:
    assert _measure(bench, peer, LIGHT) == 10


@pytest.mark.parametrize("peer", [GATE, POSTFIX_OPENDKIM], ids=lambda peer: peer.name)
def test_a_peer_uses_tls_on_both_sides(bench: Bench, peer: Peer) -> None:
    assert _measure(bench, peer, LIGHT, Conditions(has_tls=True)) == 10


def test_the_gate_signs_with_two_keys(bench: Bench) -> None:
    assert _measure(bench, GATE, LIGHT, Conditions(keys=(RSA, ED25519))) == 10
