"""Which copies of questions a gateway still has to send."""

import gc
import weakref
from types import SimpleNamespace
from typing import cast

from services.gateway.canaries.recorder import CanaryRecorder
from services.gateway.canaries.shadows import VersionShadows
from services.gateway.queries.batch_throttle import BatchThrottle
from services.gateway.queries.session import QuerySession
from shared.contracts.envelope import Query


class Copy:
    """Writes a copy, and holds all that it needs for that."""

    def __call__(self) -> Query:
        raise AssertionError("nobody asked for it")


def test_what_was_planned_for_questions_that_were_refused_is_not_kept_for_longer_than_they_could_take() -> None:
    shadows = VersionShadows(CanaryRecorder(), "gateway-1", BatchThrottle(yields=False), 32)
    copies = [Copy() for _ in range(3)]
    left = [weakref.ref(copy) for copy in copies]
    for number, copy in enumerate(copies):
        shadows.plan(f"q{number}", copy, timeout=-1.0 if number < 2 else 3600.0)
    del copies, copy
    with shadows.shadow(cast("QuerySession", SimpleNamespace(query=SimpleNamespace(id="another")))):
        gc.collect()
    assert [copy() is None for copy in left] == [True, True, False]
