"""The rights of a user who does not run this command, by the modes of files."""

import os
import pwd
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class UserByModes:
    """A user of the system; access lists are not looked at."""

    name: str
    user_id: int
    groups: Collection[int]

    @classmethod
    def of(cls, user: pwd.struct_passwd) -> "UserByModes":
        """The user with all groups."""
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        return cls(user.pw_name, user.pw_uid, frozenset(groups))

    def may(self, path: Path, rights: int) -> bool:
        """True if the mode of a file allows ``os.R_OK``, ``os.W_OK``, ``os.X_OK``, or several.

        Raises OSError.
        """
        status = path.stat()
        if status.st_uid == self.user_id:
            allowed = status.st_mode >> 6
        elif status.st_gid in self.groups:
            allowed = status.st_mode >> 3
        else:
            allowed = status.st_mode
        return not self.user_id or allowed & rights == rights
