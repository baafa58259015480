"""Directories for commands: copies of one that was furnished once."""

from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.world import make_accounts


@pytest.fixture(scope="session")
def two_accounts(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has the two accounts and nothing else."""
    desk = Desk(tmp_path_factory.mktemp("two-accounts"), sqlite_template)
    make_accounts(desk)
    return desk.database


@pytest.fixture
def stocked(furnished: Path, tmp_path: Path) -> Desk:
    """A desk with a copy of the directory that a module furnished."""
    return Desk(tmp_path, furnished)
