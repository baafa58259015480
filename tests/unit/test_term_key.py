"""The file that holds the key of the journal's terms."""

import os
from pathlib import Path

from smtpgate.journal.terms import read_key, read_or_make_key


def test_a_key_is_made_once_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.key"
    made = read_or_make_key(path)
    assert read_or_make_key(path).check == read_key(path).check == made.check
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_what_a_process_that_was_killed_left_does_not_keep_another_from_making_the_key(
    tmp_path: Path,
) -> None:
    # In a container the next process has the same number.
    (tmp_path / f"journal.key.{os.getpid()}.new").touch()
    assert read_or_make_key(tmp_path / "journal.key").check
