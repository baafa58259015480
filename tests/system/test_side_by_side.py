"""The side-by-side benchmark runs the gate as it is now, not as it once was."""

from pathlib import Path

from smtpgate.config import load_config
from smtpgate.gate.check import check
from smtpgate.signing.private_keys import generate_private_key
from tests.bench.peers.gate import Contents, Ports, write_gate


async def test_the_gate_of_the_benchmark_can_start(tmp_path: Path) -> None:
    contents = Contents({"perf": generate_private_key("rsa")})
    config = write_gate(tmp_path, contents, Ports(2525, 2526, 2600))
    said = await check(load_config(config))
    assert any("1 access key, 1 identity" in line for line in said), said
