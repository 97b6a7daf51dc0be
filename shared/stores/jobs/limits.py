"""How many jobs of one tenant may wait."""

from nats.js import JetStreamContext

from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import JOBS

__all__ = ["check_waiting_jobs", "most_waiting"]


def most_waiting(limit: int, tenant_limit: int, others: int) -> int:
    """Jobs of one tenant that may wait, where `others` wait of the `limit` of all: half of what these leave, rounded
    up, and never more than its own limit. So there is always room left for a tenant that has none waiting.

    That is the dynamic threshold of shared buffers (Choudhury and Hahne, "Dynamic queue length thresholds for
    shared-memory packet switches", 1998) with a factor of one.
    """
    return min(tenant_limit, (limit - others + 1) // 2)


async def check_waiting_jobs(jetstream: JetStreamContext, tenant: str) -> None:
    """Raises Problem QUEUE_FULL where too many jobs of the tenant wait for one more.

    Of jobs that are submitted at the same time a few more may pass. The stream itself bounds each kind and priority.
    """
    info = await jetstream.stream_info(JOBS, subjects_filter=f"job.*.*.{tenant}")
    own = sum((info.state.subjects or {}).values())
    limit, tenant_limit = info.config.max_msgs or 0, info.config.max_msgs_per_subject or 0
    if limit <= 0 or tenant_limit <= 0:
        return  # a stream of an older version, which no scheduler has updated yet
    most = most_waiting(limit, tenant_limit, info.state.messages - own)
    if own >= most:
        raise Problem(
            ProblemType.QUEUE_FULL,
            f"Too many jobs of tenant '{tenant}' are waiting: {own:,}. Try again in a minute.",
            headers={"Retry-After": "60"},
        )
