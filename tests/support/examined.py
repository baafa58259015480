"""A gate to be examined: it runs, with an upstream and a name server, and all is well.

Tests plant a fault, and look at the findings.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.config import Config, load_config
from smtpgate.demo.sink import Sink
from smtpgate.doctor.finding import DoctorFinding
from smtpgate.doctor.spf import IpAddress
from smtpgate.gate.doctor import examine_gate
from smtpgate.gate.gate import Gate
from smtpgate.ports import Clock
from tests.support.inprocess import dkim_dns_record, open_gate
from tests.support.scripted_dns import open_dns
from tests.support.zone import Zone, serve_zone

OUTGOING: Final = IPv4Address("192.0.2.25")


def _healthy() -> Zone:
    return {
        "gate.example A": ["127.0.0.1"],
        "test._domainkey.ses-example.com TXT": [dkim_dns_record()],
        "ses-example.com TXT": [f"v=spf1 ip4:{OUTGOING} -all"],
        "_dmarc.ses-example.com TXT": ["v=DMARC1; p=reject"],
    }


@dataclass
class ExaminedWorld:
    """The gate with its surroundings; ``ports`` are those of its listeners.

    ``other`` is another mail server, which has nothing to do with the gate.
    """

    folder: Path
    gate: Gate
    sink: Sink
    other: Sink
    ports: Mapping[str, int]
    zone: Zone = field(default_factory=_healthy)
    clock: Clock = field(default_factory=SystemClock)
    outgoing: Sequence[IpAddress] = (OUTGOING,)
    state_name: str = "state"

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / self.state_name

    def change(self, old: str, new: str) -> None:
        """Change the configuration that is examined, and not the gate that runs."""
        path = self.folder / "smtpgate.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def config(self) -> Config:
        """The configuration, with the ports that were free for it."""
        config = load_config(self.folder / "smtpgate.toml")
        listeners = tuple(
            one if one.port else one.model_copy(update={"port": self.ports[one.name]})
            for one in config.listeners
        )
        return config.model_copy(update={"listeners": listeners})

    async def findings(self, *only: str, test_to: str = "") -> list[DoctorFinding]:
        """The findings of all checks, or of some."""
        reports = await examine_gate(
            self.config, self.clock, only=only, outgoing=self.outgoing, test_to=test_to
        )
        return [finding for report in reports for finding in report.findings]


@asynccontextmanager
async def open_examined(
    folder: Path, gate: str = "", accounts: str = ""
) -> AsyncIterator[ExaminedWorld]:
    """Start the gate and its surroundings; ``gate`` is more of its section, ``accounts`` of
    its documents."""
    async with open_dns() as server:
        sections = (
            f'[dns]\nnameservers = ["{server.nameserver}"]\ntimeout_s = 2\nlifetime_s = 4\n'
        )
        # The sink takes less than the gate does by default; the folder may be on a small disk.
        bounds = "max_message_octets = 10000000\nmax_spooled_octets = 20000000\n"
        opened = open_gate(folder, accounts=accounts, sections=sections, gate=bounds + gate)
        async with opened as (running, sink), Sink() as other:
            ports = {name: one.port for name, one in running.listeners.items()}
            world = ExaminedWorld(folder, running, sink, other, ports)
            serve_zone(server, world.zone)
            yield world
