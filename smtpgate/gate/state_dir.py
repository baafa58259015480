"""The state folder before a start: whether it exists and this user may use its files."""

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from smtpgate.config import Config

_NAME_ONE: Final = "name one that the gate may write"


class StateDirError(OSError):
    """A state folder that this user cannot use; the text names the key and says what to do."""


def look_at_state_dir(folder: Path) -> Iterator[str]:
    """Warnings about the folder of ``gate.state_dir``; nothing is changed.

    Raises StateDirError, or PermissionError when this user may not read it.
    """
    if folder.exists():
        _must_be_usable(folder)
        yield from _files_of_others(folder)
        return
    above = next(path for path in folder.parents if path.exists())
    if not above.is_dir():
        raise StateDirError(f"gate.state_dir: {above} is not a folder; {_NAME_ONE}")
    if not _may(above, os.W_OK | os.X_OK):
        yield (
            f"gate.state_dir: there is no folder {folder}, and this user may not make it in "
            f"{above}; the systemd unit makes /var/lib/smtpgate, for another run: "
            f"install -d -m 700 -o USER {folder} (USER is the user of the gate)"
        )


def shortage_of_space(config: Config) -> str | None:
    """A warning when large messages can fill the disk."""
    gate = config.gate
    if gate.max_message_octets <= config.message.spool_octets:
        return None
    folder = next(path for path in (gate.state_dir, *gate.state_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free >= gate.max_spooled_octets:
        return None
    return (
        f"gate.max_spooled_octets: large messages may take {gate.max_spooled_octets} octets, "
        f"and {folder} has {free} octets free"
    )


def _must_be_usable(folder: Path) -> None:
    if not folder.is_dir():
        raise StateDirError(f"gate.state_dir: {folder} is not a folder; {_NAME_ONE}")
    needed = {folder: os.R_OK | os.W_OK | os.X_OK}
    if _may(folder, os.X_OK | os.R_OK):
        needed |= dict.fromkeys(_files(folder), os.R_OK | os.W_OK)
    for path, rights in needed.items():
        if not _may(path, rights):
            raise StateDirError(
                f"gate.state_dir: this user may not read and write {path}; run the command as "
                f"root or as the user of the gate, which must own the folder: "
                f"chown -R USER: {folder}"
            )


def _files_of_others(folder: Path) -> Iterator[str]:
    """Warnings about files of another user than the folder's, such as root."""
    owner = folder.stat().st_uid
    for path in _files(folder):
        if (uid := path.stat().st_uid) != owner:
            yield (
                f"gate.state_dir: {path} belongs to {_user(uid)}, and its folder to "
                f"{_user(owner)}: the gate may not be able to use it; "
                f"chown {_user(owner)}: {path}"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _may(path: Path, rights: int) -> bool:
    return os.access(path, rights, effective_ids=True)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
