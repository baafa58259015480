"""The Python that a gate of the benchmark runs under: the one that an operator has.

The peers are Debian's packages, as Debian builds them. Its Python is built with a profile; one
that was compiled without a profile needs half as much again for the same steps. So the gate
runs under Debian's Python if that has the version for which the packages were installed.
"""

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.source import ROOT

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_OPERATOR_S: Final = Path(f"/usr/bin/python{_VERSION}")


@cache
def interpreter() -> tuple[str, str]:
    """The interpreter's path, and its whole version."""
    if not _OPERATOR_S.exists():
        return sys.executable, platform.python_version()
    show = [str(_OPERATOR_S), "-c", "import platform; print(platform.python_version())"]
    shown = subprocess.run(show, capture_output=True, text=True, check=True, timeout=30)
    return str(_OPERATOR_S), shown.stdout.strip()


def environment() -> Mapping[str, str]:
    """The variables with which it finds this checkout and the installed packages."""
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    return os.environ | {"PYTHONPATH": path}
