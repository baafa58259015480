"""No peer: the load straight to the sink, which shows what both of them can do."""

from typing import Final

from tests.bench.peers.peer import Peer, Running, Setup


def start_direct(setup: Setup) -> Running:
    """Start nothing."""
    return Running(setup.sink_port, has_tls=setup.authority is not None)


DIRECT: Final = Peer("direct", start_direct, signs=False)
