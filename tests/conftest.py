"""What every test may use: a clock that can be moved, and how long hypothesis searches.

``SMTPGATE_HYPOTHESIS`` chooses: ``dev`` (the default), ``ci`` or ``fuzz``. The first two try
the same examples in each run, so that a failure is the change's; ``fuzz`` looks elsewhere each
time.
"""

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import MovableClock

_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile(
    "dev", max_examples=50, deadline=None, derandomize=True, database=None
)
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=500)
settings.register_profile(
    "fuzz", max_examples=50_000, deadline=None, suppress_health_check=_SLOW, print_blob=True
)
settings.load_profile(os.environ.get("SMTPGATE_HYPOTHESIS", "dev"))


@pytest.fixture
def clock() -> MovableClock:
    """A clock that stands still until it is moved."""
    return MovableClock()
