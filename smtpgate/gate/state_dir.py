"""The state folder before a start: whether it exists and this user may use its files."""

import errno
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.gate.user_rights import UserByModes
from smtpgate.spool import NO_UNNAMED_FILES

# As systemd/smtpgate.service has them.
USER_OF_UNIT: Final = "smtpgate"
FOLDER_OF_UNIT: Final = Path("/var/lib/smtpgate")
_NAME_ONE: Final = "name one that the gate may write"
_ALL_RIGHTS: Final = os.R_OK | os.W_OK | os.X_OK


class StateDirError(OSError):
    """A state folder that this user cannot use; the text names the key and says what to do."""


def look_at_state_dir(folder: Path) -> Iterator[str]:
    """Warnings about the folder of ``gate.state_dir``; nothing is changed.

    Raises StateDirError, or PermissionError when this user may not read it.
    """
    if folder.exists():
        _must_be_usable(folder)
        yield from _files_of_others(folder)
    else:
        yield from _must_be_makeable(folder)
    user = _user_of_service(folder)
    if user is not None:
        yield from _denied_to(user, folder)


def cannot_be_made(folder: Path, error: OSError) -> str:
    """The problem of a folder that is missing and cannot be made."""
    words = f"gate.state_dir: {folder} cannot be made: {reason(error)}"
    return f"{words}; name a folder that the service may write"


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
    error = _why_no_file_can_be_made(folder)
    if error is not None and error.errno != errno.EACCES:
        problem = f"gate.state_dir: {folder} cannot be written: {reason(error)}"
        raise StateDirError(f"{problem}; {_NAME_ONE}")
    needed = {folder: _ALL_RIGHTS}
    if _may(folder, os.X_OK | os.R_OK):
        needed |= dict.fromkeys(_files(folder), os.R_OK | os.W_OK)
    for path, rights in needed.items():
        if not _may(path, rights):
            raise StateDirError(
                f"gate.state_dir: this user may not read and write {path}; run the command as "
                f"root or as the user of the gate, which must own the folder: "
                f"chown -R USER: {folder}"
            )


def _must_be_makeable(folder: Path) -> Iterator[str]:
    above = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not above.is_dir():
        raise StateDirError(f"gate.state_dir: {above} is not a folder; {_NAME_ONE}")
    error = _why_no_file_can_be_made(above)
    if error is None:
        return
    if error.errno != errno.EACCES:
        raise StateDirError(cannot_be_made(folder, error))
    yield (
        f"gate.state_dir: there is no folder {folder}, and this user may not make it in "
        f"{above}; the systemd unit makes {FOLDER_OF_UNIT}, for another run: "
        f"install -d -m 700 -o USER {folder} (USER is the user of the gate)"
    )


def _why_no_file_can_be_made(folder: Path) -> OSError | None:
    """Tries it by a file that has no name, so nothing is left, however this process ends."""
    try:
        os.close(os.open(folder, os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE, 0o600))
    except OSError as error:
        if error.errno not in NO_UNNAMED_FILES:
            return error
        if not _may(folder, os.W_OK | os.X_OK):
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return None


def _user_of_service(folder: Path) -> UserByModes | None:
    """The user that the gate will run as, if root asks for it and it can be known.

    It is the owner of the folder. Until a gate has used the folder it may also be the user of
    the systemd unit, which makes its own folder.
    """
    if os.geteuid() != 0:
        return None
    is_there = folder.exists()
    owner = folder.stat().st_uid if is_there else 0
    try:
        if owner:
            return UserByModes.of(pwd.getpwuid(owner))
        if folder == FOLDER_OF_UNIT or (is_there and any(folder.iterdir())):
            return None
        return UserByModes.of(pwd.getpwnam(USER_OF_UNIT))
    except KeyError:
        return None


def _denied_to(user: UserByModes, folder: Path) -> Iterator[str]:
    """A warning if the modes of folders keep the user of the service out."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    for path in reversed(above.parents):
        if not user.may(path, os.X_OK):
            yield (
                f"gate.state_dir: {user.name} may not enter {path}, and so not use {folder}; "
                f"name another folder if the gate runs as {user.name}"
            )
            return
    if user.may(above, _ALL_RIGHTS if above == folder else os.W_OK | os.X_OK):
        return
    if above == folder:
        yield (
            f"gate.state_dir: {user.name} may not read and write {folder}; if the gate runs as "
            f"{user.name}: chown -R {user.name}: {folder} && chmod 700 {folder}"
        )
    else:
        yield (
            f"gate.state_dir: there is no folder {folder}, and {user.name} may not make it in "
            f"{above}; if the gate runs as {user.name}: "
            f"install -d -m 700 -o {user.name} {folder}"
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
