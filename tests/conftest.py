"""The options of test runs; the fixtures are in ``tests/support/fixtures.py``."""

import gc

import pytest

# Imported modules and collected tests stay to the end: a collector that looks through them
# again and again takes longer than many a test.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Import the fixtures, and the program with them.

    The process that only hands out tests to others would import that for nothing, while they
    wait for it.
    """
    if config.getoption("dist", "no") == "no" or not config.getoption("tx", None):
        config.pluginmanager.import_plugin("tests.support.fixtures")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on things are made that may be thrown away."""
    gc.freeze()
    gc.enable()
