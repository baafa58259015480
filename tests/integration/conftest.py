"""The fixtures of the integration tests: a lab a test, whose logs a failed test shows."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Lab
from tests.support.forks import prepare_for_gates

_HERE = Path(__file__).parent

prepare_for_gates()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder needs real daemons."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the daemons' logs to the report of a failed test."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for lab in item.funcargs.values():
            if isinstance(lab, Lab):
                report.sections += [(f"log of {name}", log) for name, log in lab.logs()]
    return report


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A folder and its daemons, for one test."""
    with Lab(has_forks=True) as made:
        yield made


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    """A folder and its daemons, for all tests of a module."""
    with Lab(has_forks=True) as made:
        yield made
