"""A short soak: what ``make soak`` does for an hour, in half a minute."""

import os

from tests.soak.soak import Plan, Soak, table
from tests.support.daemons import Lab

SEED = int(os.environ.get("SMTPGATE_SOAK_SEED", "1"))


async def test_a_short_soak_is_good(lab: Lab) -> None:
    plan = Plan(seconds=25, seed=SEED)
    verdict = await Soak(lab, plan).run()
    assert not verdict.problems, table(verdict)
    # It was one: all kinds of trouble came, on both sides.
    assert {"reload", "renew"} & plan.counts.keys(), plan.counts
    assert {"restart", "kill_all", "kill_worker"} & plan.counts.keys(), plan.counts
    assert any(name.startswith("upstream ") for name in plan.counts), plan.counts
    acknowledged, failovers = (
        verdict.figures[name] for name in ("acknowledged", "with failover")
    )
    assert isinstance(acknowledged, int)
    assert isinstance(failovers, int)
    assert acknowledged > 200, table(verdict)
    assert failovers > 0, table(verdict)
