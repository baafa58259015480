"""Commands as they are given by a user who may not read or write everything."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NOBODY: Final = 65534


@contextmanager
def as_user_without_rights() -> Iterator[None]:
    """Nobody, when the tests are run by root; else the user, who is no root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def with_way_for_all(folder: Path) -> None:
    """Let everybody enter the folders in which it is."""
    # The folder of pytest's; see tests/conftest.py.
    temporary = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
    for path in folder.parents:
        if path.is_relative_to(temporary) and path != temporary:
            path.chmod(0o755)


def opened_to_all(folder: Path) -> None:
    """Let everybody read and write what a test has made there, and find the way to it."""
    with_way_for_all(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
