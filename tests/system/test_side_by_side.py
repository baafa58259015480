"""The side-by-side benchmark runs the gate as it is now, not as it once was."""

from pathlib import Path

from smtpgate.config import load_config
from smtpgate.gate.check import check
from smtpgate.signing.private_keys import generate_private_key
from tests.bench.side_by_side import write_gate


async def test_the_gate_of_the_benchmark_can_start(tmp_path: Path) -> None:
    config = write_gate(tmp_path, generate_private_key("rsa"), port=2525, sink_port=2600)
    said = await check(load_config(config))
    assert any("1 access key, 1 identity" in line for line in said), said
