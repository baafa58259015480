"""Sources of packages as PyPI has them, for the test suites that the packages lack."""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from tests.support.daemons import missing
from tests.support.gate import ROOT


def source_folder(package: str) -> Path:
    """The unpacked source of a package that is installed, at its version; fetched once."""
    name = f"{package}-{version(package)}"
    kept = ROOT / ".venv" / "sources"
    if (kept / name).exists():
        return kept / name
    kept.mkdir(exist_ok=True)
    fetched = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *(
                "--no-binary",
                package,
                "--dest",
                kept,
                name.replace(f"{package}-", f"{package}=="),
            ),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if fetched.returncode != 0:
        missing(f"the source of {name} cannot be fetched: {fetched.stderr[-1000:]}")
    archive = kept / f"{name}.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(kept, filter="data")
    archive.unlink()
    return kept / name
