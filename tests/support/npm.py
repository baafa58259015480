"""Packages of npm at fixed versions, installed once beside the tests' own packages."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemons import missing, need
from tests.support.gate import ROOT


def npm_folder(name: str, versions: Mapping[str, str]) -> Path:
    """The folder of that name under ``.venv`` that has those packages under node_modules.

    Each set of packages has its own: npm takes out of a folder what it was not asked for.
    """
    folder = ROOT / ".venv" / name
    if all(_version(folder, package) == wanted for package, wanted in versions.items()):
        return folder
    packages = [f"{package}@{version}" for package, version in versions.items()]
    done = subprocess.run(
        [
            need("npm", "npm"),
            *("install", "--prefix", folder, "--ignore-scripts"),
            *("--no-audit", "--no-fund", "--no-save", *packages),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        missing(f"{' '.join(packages)} cannot be installed: {done.stderr[-1000:]}")
    return folder


def _version(folder: Path, package: str) -> str | None:
    file = folder / "node_modules" / package / "package.json"
    if not file.exists():
        return None
    version: str = json.loads(file.read_text())["version"]
    return version
