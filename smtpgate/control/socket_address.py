"""The address of a Unix socket, which may be shorter than its path."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MAX_OCTETS: Final = 107  # unix(7): of sun_path, with the NUL that ends it 108


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address for ``bind`` and ``connect``; for a long path one by its folder's descriptor.

    Raises OSError if the folder cannot be opened.
    """
    if len(os.fsencode(path)) <= _MAX_OCTETS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
