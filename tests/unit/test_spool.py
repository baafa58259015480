"""Unnamed files, and what becomes of them when they cannot be used."""

import os
from pathlib import Path

import pytest

from smtpgate.spool import Spool, SpoolError, SpoolFile
from tests.support.large import open_files
from tests.support.waiting import until


def test_a_file_system_without_unnamed_files_has_files_that_are_unlinked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT)  # EINVAL, or EISDIR
    file = SpoolFile(tmp_path)
    file.write(b"Hello.\r\n")
    assert open_files(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert list(file.pieces()) == [b"Hello.\r\n"]
    file.close()
    assert open_files(tmp_path) == 0


async def test_a_file_that_cannot_be_made_is_reported_once_until_one_is_stored(
    tmp_path: Path,
) -> None:
    folder, problems = tmp_path / "state", list[str | None]()
    spool = Spool(folder, problems.append)
    file = spool.new_file()
    for _ in range(2):
        with pytest.raises(SpoolError, match="No such file or directory"):
            await spool.run(file.write, b"Hello.\r\n")
    folder.mkdir()
    await spool.run(file.write, b"Hello.\r\n")
    spool.note_stored()
    spool.note_stored()
    assert problems == ["No such file or directory", None]
    spool.drop(file)
    await until(lambda: open_files(tmp_path) == 0)


def test_a_file_that_is_closed_is_neither_read_nor_written(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path)
    file.write(b"Hello.\r\n" * 100_000)
    pieces = file.pieces()
    assert len(next(pieces)) == 256 * 1024
    file.close()
    file.close()
    with pytest.raises(SpoolError, match="closed"):
        next(pieces)
    with pytest.raises(SpoolError, match="closed"):
        file.write(b"Hello.\r\n")


def test_a_file_that_has_become_shorter_is_an_error(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path)
    file.write(b"Hello.\r\n" * 100_000)
    assert file._descriptor is not None
    os.ftruncate(file._descriptor, 300_000)
    with pytest.raises(SpoolError, match="shorter"):
        list(file.pieces())
    file.close()


def test_a_file_is_read_from_its_beginning_each_time(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path)
    assert list(file.pieces()) == []
    for line in (b"one\r\n", b"two\r\n"):
        file.write(line)
    assert list(file.pieces()) == list(file.pieces()) == [b"one\r\ntwo\r\n"]
    assert len(file) == 10
    assert (open_files(tmp_path), list(tmp_path.iterdir())) == (1, [])
    file.close()
