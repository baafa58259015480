"""The second table: the same messages under other conditions, each next to the usual ones."""

from collections.abc import Sequence
from typing import Final

from tests.bench.peers.load import Load
from tests.bench.peers.peer import Peer
from tests.bench.peers.run import ED25519, RSA, Bench, Conditions, Row, measure

# Loads that a peer is measured with after one start.
SHAPES: Final[tuple[tuple[Conditions, tuple[Load, ...]], ...]] = (
    (
        Conditions(),
        (
            Load("as the first table"),
            Load("10 recipients", recipients=10),
            Load("one message a connection", messages_each=1),
            Load("1 connection", connections=1),
            Load("64 connections", connections=64),
            Load("500 connections", connections=500),
        ),
    ),
    (
        Conditions(has_tls=True),
        (
            Load("TLS on both sides"),
            Load("TLS, one message a connection", messages_each=1),
        ),
    ),
    (Conditions(keys=(ED25519,)), (Load("Ed25519"),)),
    (Conditions(keys=(RSA, ED25519)), (Load("RSA and Ed25519"),)),
)


def measure_all(bench: Bench, peers: Sequence[Peer]) -> list[Row]:
    """Measure the peers under all conditions."""
    return [
        row for conditions, loads in SHAPES for row in measure(bench, peers, loads, conditions)
    ]
