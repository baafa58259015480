"""Files with random keys, a line of base64 each; the first process that needs one makes it."""

import base64
import binascii
import os
from pathlib import Path
from typing import Final

KEY_OCTETS: Final = 32


class KeyTextError(ValueError):
    """A text that has no keys; the error says what it should be."""


def keys_in(text: str) -> tuple[bytes, ...]:
    """The keys of the lines. Raises KeyTextError."""
    try:
        keys = tuple(base64.b64decode(line, validate=True) for line in text.split())
    except (binascii.Error, ValueError):
        keys = ()
    if not keys or any(len(key) != KEY_OCTETS for key in keys):
        raise KeyTextError(f"is not {KEY_OCTETS} octets in base64")
    return keys


def new_key() -> bytes:
    """A new random key."""
    return os.urandom(KEY_OCTETS)


def make_key_file(path: Path, key: bytes) -> None:
    """Write a file with that key: whole or not at all, and never over another process's.

    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, base64.b64encode(key) + b"\n")
        if os.geteuid() == 0:
            # Made by an administrator's command: it is the folder's owner that needs it.
            folder = path.parent.stat()
            os.chown(descriptor, folder.st_uid, folder.st_gid)
        os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        return  # another process was faster, and its key is the one
    finally:
        os.close(descriptor)
        draft.unlink()
