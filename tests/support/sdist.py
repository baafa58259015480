"""Sources of packages as PyPI has them, for the test suites that the packages lack."""

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.support.daemons import missing
from tests.support.gate import ROOT

ANSIBLE: Final = "ansible-12.3.0"
_COLLECTIONS: Final = ("ansible_collections/amazon/aws/", "ansible_collections/community/aws/")


def source_folder(package: str) -> Path:
    """The unpacked source of a package that is installed, at its version; fetched once."""
    name = f"{package}-{version(package)}"
    kept = ROOT / ".venv" / "sources"
    if (kept / name).exists():
        return kept / name
    kept.mkdir(exist_ok=True)
    _fetch(name, kept, "--no-binary", package)
    archive = kept / f"{name}.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(kept, filter="data")
    archive.unlink()
    return kept / name


def ansible_collections() -> Path:
    """The folder with Ansible's collections for AWS; fetched once.

    The package has 210 MB, of which these are six.
    """
    kept = ROOT / ".venv" / "sources"
    if (kept / ANSIBLE).exists():
        return kept / ANSIBLE
    kept.mkdir(exist_ok=True)
    _fetch(ANSIBLE, kept)
    (archive,) = kept.glob(f"{ANSIBLE}-*.whl")
    unpacking = kept / f"{ANSIBLE}.unpacking"
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if name.startswith(_COLLECTIONS)]
        packed.extractall(unpacking, names)
    archive.unlink()
    return unpacking.rename(kept / ANSIBLE)


def _fetch(name: str, into: Path, *options: str) -> None:
    """Download a package of PyPI, named with its version."""
    package, _, number = name.rpartition("-")
    fetched = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options),
            *("--dest", into, f"{package}=={number}"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if fetched.returncode != 0:
        missing(f"{name} cannot be fetched: {fetched.stderr[-1000:]}")
