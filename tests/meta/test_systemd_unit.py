"""The unit, checked by systemd itself where there is one."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.source import ROOT

UNIT = ROOT / "systemd" / "smtpgate.service"
SOCKETS = ROOT / "systemd" / "smtpgate.socket"
SAMPLE = ROOT / "config" / "smtpgate.toml"


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    return program


def test_systemd_knows_every_directive(analyze: str, tmp_path: Path) -> None:
    program = tmp_path / "smtpgate"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit, ports = tmp_path / "smtpgate.service", tmp_path / "smtpgate.socket"
    unit.write_text(UNIT.read_text().replace("/opt/smtpgate/bin/smtpgate", str(program)))
    ports.write_text(SOCKETS.read_text())
    run = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit), str(ports)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_systemd_calls_the_service_well_confined(analyze: str) -> None:
    run = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    level = re.search(r"Overall exposure level for smtpgate\.service: ([0-9.]+)", run.stdout)
    assert level is not None, run.stderr
    assert float(level[1]) <= 2.0


def test_no_core_dump_has_secrets() -> None:
    assert "\nLimitCORE=0\n" in UNIT.read_text()


def test_the_process_of_a_reload_may_lower_its_priority() -> None:
    filters = re.findall(r"(?m)^SystemCallFilter=(.+)$", UNIT.read_text())
    assert filters[-1] == "setpriority", "it is one of @resources, which are refused before"


def test_the_ports_of_the_sample_are_those_that_systemd_keeps() -> None:
    kept = re.findall(r"(?m)^ListenStream=(.+):(\d+)$", SOCKETS.read_text())
    listeners = tomllib.loads(SAMPLE.read_text())["listener"].values()
    assert kept == [(one["address"], str(one["port"])) for one in listeners]
