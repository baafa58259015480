"""The wheel: what is installed has the guides, and shows them."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.reference import GUIDE, ROOT, guide


def test_the_wheel_has_every_page_and_smtpgate_help_finds_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    pages = {path.name: path.read_text("utf-8") for path in GUIDE.glob("*.md")}
    shipped = (installed / "smtpgate" / "guide").glob("*")
    assert {path.name: path.read_text("utf-8") for path in shipped} == pages
    shown = subprocess.run(
        [sys.executable, "-m", "smtpgate", "help", "limits"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.startswith(guide("limits").partition("\n")[0])
