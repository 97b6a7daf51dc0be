"""A look at all collections after the start: does the index of each hold what its records name?"""

import logging

from nats.errors import Error as NatsError
from prometheus_client import Gauge

from services.scheduler.collections.index_check import IndexCheck
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections

__all__ = ["scan_indices"]

log = logging.getLogger(__name__)

DAMAGED = Gauge(
    "sluice_collections_damaged", "Collections whose index and records did not agree when this scheduler started."
)


async def scan_indices(collections: Collections, check: IndexCheck) -> None:
    """Compare the live version of each collection, one after another, and log those that are damaged."""
    damaged = 0
    DAMAGED.set(0)
    try:
        every = await collections.every()
    except (NatsError, TimeoutError, OSError) as error:
        log.warning("the collections were not compared with their indices: %r", error)
        return
    for collection in every:
        try:
            await check.require(collection.owner, collection.table, collection.name)
        except Problem as problem:
            if problem.kind is not ProblemType.INDEX_DAMAGED:
                continue  # it was deleted meanwhile, or nobody serves its index now
            damaged += 1
            DAMAGED.set(damaged)
            log.log(logging.ERROR, "%s", problem, extra={"tenant": collection.tenant, "collection": collection.name})
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("the collection %s was not compared with its index: %r", collection.name, error)
