"""Hosts as an operator sets them up: the shipped configuration, started as ``serve`` does."""

from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from typer.testing import CliRunner

from smtpgate.cli import app
from smtpgate.clock import SystemClock
from smtpgate.config import Config, load_config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.directory import open_directory
from smtpgate.gate.gate import Gate
from smtpgate.gate.initialize import Sample, initialize
from smtpgate.gate.serve import open_gate


def change(folder: Path, old: str, new: str, name: str = "smtpgate.toml") -> None:
    """Write something else into a file of a host."""
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def host(folder: Path, shared: Path | None = None) -> Path:
    """The shipped configuration on loopback; its databases are in the other folder, if any."""
    initialize(folder, Sample(hostname="gate.example.com"))
    on_loopback(folder)
    if shared is not None:
        for name in ("directory", "journal"):
            share(folder, name, f"sqlite:///{shared}/{name}.sqlite")
    return folder


def on_loopback(folder: Path) -> None:
    """Let a host listen on loopback, at ports that are free, and log into a file."""
    change(folder, '"0.0.0.0"', '"127.0.0.1"')
    for port in ("587", "465", "9587"):
        change(folder, f"port = {port}\n", "port = 0\n")
    change(folder, "and no other.\nport = 25\n", "and no other.\nport = 0\n")
    change(folder, 'target = "stderr"', 'target = "log"')
    change(folder, "recheck = true", "recheck = false")


def share(folder: Path, name: str, url: str) -> None:
    """Name the database of the directory or the journal."""
    before, _, rest = (folder / "smtpgate.toml").read_text().partition(f"\n[{name}]")
    old = '#url = "postgresql://smtpgate@db.example.com/smtpgate"'
    assert old in rest
    rest = rest.replace(old, f'url = "{url}"', 1)
    (folder / "smtpgate.toml").write_text(f"{before}\n[{name}]{rest}")


def config_of(folder: Path) -> Config:
    """Its configuration."""
    return load_config(folder / "smtpgate.toml")


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Gate]:
    """A gate that has come up as ``serve`` brings it up."""
    async with open_gate(config_of(folder)) as gate:
        try:
            yield gate
        finally:
            await gate.stop(drain_s=0)


@asynccontextmanager
async def directory_of(folder: Path) -> AsyncIterator[DirectoryStore]:
    """Its directory, open."""
    async with open_directory(config_of(folder), SystemClock(), []) as store:
        yield store


async def smtpgate(folder: Path, *words: str) -> str:
    """The output of a command that succeeds."""
    environment = {"SMTPGATE_CONFIG": str(folder / "smtpgate.toml")}
    run = CliRunner().invoke
    result = await to_thread(run, app, list(words), env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout
