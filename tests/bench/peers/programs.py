"""The two programs in C, compiled when a benchmark begins: a load must cost little."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.daemons import missing, need

_SOURCES: Final = Path(__file__).parent
_TLS_HEADER: Final = Path("/usr/include/openssl/ssl.h")


@dataclass(frozen=True, slots=True)
class Programs:
    """The load generator and the sink."""

    load: Path
    sink: Path


def compiled(folder: Path) -> Programs:
    """Both programs, compiled into that folder."""
    compiler = need("gcc", "gcc")
    if not _TLS_HEADER.exists():
        missing("OpenSSL's headers are not installed (Debian package libssl-dev)")
    for name in ("load", "sink"):
        files = ["-o", str(folder / name), str(_SOURCES / f"{name}.c")]
        done = subprocess.run(
            [compiler, "-O2", *files, "-lssl", "-lcrypto"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            missing(f"{name}.c cannot be compiled: {done.stderr[-1000:]}")
    return Programs(folder / "load", folder / "sink")
