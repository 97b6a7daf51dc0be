"""The ids of the jobs of ticks."""

import re

from services.scheduler.schedules.ticker import tick_job
from shared.contracts.jobs.job import check_ids


def test_the_ids_of_ticks_hold_128_bits_of_tenant_and_schedule() -> None:
    names = ["n", "x" * 40, "x" * 39 + "y"]
    made = {tick_job(tenant, name, 2_000_000_000) for tenant in ("acme", "rival", "t" * 64) for name in names}
    assert len(made) == 9
    for job in made:
        check_ids("acme", job)
        assert re.fullmatch(r"[0-9a-f]{32}", job.rpartition("-")[2])
