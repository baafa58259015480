"""Documents applied to a directory: the changes, and the refusals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.documents.apply import planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.store import DirectoryStore
from tests.support.cases import load_cases
from tests.support.documents import Files, applied, content, noted, read
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

# The tables of plans; what most documents do is in test_documents_apply.py.
pytestmark = pytest.mark.slow

PLANS: Final = load_cases("documents/10-plans.toml")
REFUSED: Final = load_cases("documents/20-refused.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents, with the files that they name."""
    folder = tmp_path / "documents"
    folder.mkdir()
    files = Files.made(folder)
    for delegate in (DELEGATE, "777777777777"):
        path = Path(files.delegate(OWNER, "example.com", delegate))
        path.rename(folder / f"owner-{delegate[:3]}.json")
    return folder


def written(folder: Path, text: str) -> Desired:
    (folder / "accounts.toml").write_text(text)
    return read(folder)


async def given(store: DirectoryStore, folder: Path, case: Mapping[str, Any]) -> Desired:
    """The documents of a case, with the directory as it was before."""
    await applied(store, written(folder, case["before"]))
    return written(folder, case["after"])


@pytest.mark.parametrize("case", PLANS, ids=[case["note"] for case in PLANS])
async def test_the_plan_is_as_the_table_says_and_is_carried_out(
    store: DirectoryStore, folder: Path, case: dict[str, Any]
) -> None:
    declared, prune = await given(store, folder, case), case.get("prune", False)
    force = case.get("force", False)
    plan = await planned(store, declared, prune, force=force)
    assert str(plan).splitlines() == case["plan"]
    assert list(map(str, plan.drift)) == case.get("drift", [])
    assert await applied(store, declared, prune=prune, force=force, expected=plan) == plan
    before = await content(store)
    seen = await noted(store)
    assert not await applied(store, declared, prune=prune)
    assert await content(store) == before
    assert await noted(store) == seen


@rows("case", REFUSED, ids=[case["note"] for case in REFUSED])
async def test_what_does_not_fit_the_directory_is_reported_and_changes_nothing(
    store: DirectoryStore, folder: Path, case: dict[str, Any]
) -> None:
    declared = await given(store, folder, case)
    before, seen = await content(store), await noted(store)
    for refused in (
        planned(store, declared, prune=False),
        applied(store, declared, prune=False),
    ):
        with pytest.raises(DirectoryError) as refusal:
            await refused
        output = str(refusal.value).replace(f"{folder}/accounts.toml: ", "")
        assert output.splitlines() == case["problems"]
    assert await content(store) == before
    assert await noted(store) == seen
