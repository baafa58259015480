"""Sources of packages as PyPI has them, for the test suites that the packages lack."""

import fcntl
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Final, ParamSpec

from tests.support.daemons import missing
from tests.support.gate import ROOT

ANSIBLE: Final = "ansible-12.3.0"
MOTO: Final = "moto-5.2.5"
_SUITES: Final = ("tests/unit/auth/", "tests/unit/protocols/")
# What moto needs beside the packages that the tests have for their own clients.
_MOTO_NEEDS: Final = ("responses==0.26.3", "werkzeug==3.1.9", "xmltodict==1.0.4")
_MOTO_TESTS: Final = ("__init__.py", "conftest.py", "test_awslambda", "test_ses", "test_sns")
_COLLECTIONS: Final = ("ansible_collections/amazon/aws/", "ansible_collections/community/aws/")


P = ParamSpec("P")


def _one_at_a_time(fetched: Callable[P, Path]) -> Callable[P, Path]:
    """The function, called by one process at a time: tests run in several."""

    @wraps(fetched)
    def call(*words: P.args, **named: P.kwargs) -> Path:
        with (ROOT / ".venv" / "sources.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return fetched(*words, **named)

    return call


@_one_at_a_time
def botocore_folder() -> Path:
    """The folder with botocore's suites of signatures and protocols, at the installed version.

    Fetched once. To unpack all of its source takes seconds.
    """
    name = f"botocore-{version('botocore')}"
    kept = ROOT / ".venv" / "sources"
    if (kept / name).exists():
        return kept / name
    kept.mkdir(exist_ok=True)
    _fetch(name, kept, "--no-binary", "botocore")
    archive, unpacking = kept / f"{name}.tar.gz", kept / f"{name}.unpacking"
    with tarfile.open(archive) as packed:
        wanted = tuple(f"{name}/{suite}" for suite in _SUITES)
        members = [one for one in packed if one.name.startswith(wanted)]
        packed.extractall(unpacking, members, filter="data")
    archive.unlink()
    (unpacking / name).rename(kept / name)
    unpacking.rmdir()
    return kept / name


@_one_at_a_time
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


@_one_at_a_time
def moto_folder() -> Path:
    """The folder with moto, its tests of SES and SNS, and in ``needs`` what it needs beside.

    Fetched once. Other tests are not kept, nor the data of other services, 90 MB.
    """
    kept = ROOT / ".venv" / "sources"
    if (kept / MOTO).exists():
        return kept / MOTO
    kept.mkdir(exist_ok=True)
    _fetch(MOTO, kept, "--no-binary", "moto")
    archive, unpacking = kept / f"{MOTO}.tar.gz", kept / f"{MOTO}.unpacking"
    wanted = (
        f"{MOTO}/moto/",
        f"{MOTO}/pyproject.toml",
        *(f"{MOTO}/tests/{one}" for one in _MOTO_TESTS),
    )
    with tarfile.open(archive) as packed:
        named = [one for one in packed if one.name.startswith(wanted)]
        members = [one for one in named if one.name.endswith((".py", ".toml"))]
        packed.extractall(unpacking, members, filter="data")
    archive.unlink()
    _pip("install", "--target", unpacking / MOTO / "needs", *_MOTO_NEEDS)
    (unpacking / MOTO).rename(kept / MOTO)
    unpacking.rmdir()
    return kept / MOTO


def _fetch(name: str, into: Path, *options: str) -> None:
    """Download a package of PyPI, named with its version."""
    package, _, number = name.rpartition("-")
    _pip("download", *options, "--dest", into, f"{package}=={number}")


def _pip(command: str, *words: str | Path) -> None:
    """Fetch packages from PyPI, without those that they need."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        missing(f"{words[-1]} cannot be fetched: {done.stderr[-1000:]}")
