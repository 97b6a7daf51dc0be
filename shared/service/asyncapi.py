"""What the AsyncAPI page says of the job plane: the events that ask for jobs, and those that tell of them."""

from faststream.nats import NatsBroker

from shared.contracts.jobs import AnyJobSpec
from shared.contracts.jobs.job import Job

__all__ = ["describe_jobs"]

ASK = """A job, as a CloudEvent 1.0 in NATS binary mode: whoever publishes it here, with `nats pub` for instance,
submits what POST /v1/jobs does. The payload is the spec, its kind that of the subject. Headers:

- `ce-specversion: 1.0`, `ce-type: io.sluice.job.<kind>`, `ce-source`: as CloudEvents say
- `ce-id`: the id of the job: letters, digits, `-` and `_`, at most 64; the same one twice is one job
- `ce-tenant`: whose job it is, else the last token of the subject
- `Sluice-Job-Options`: priority, retry, deadline, labels and by, as JSON, where they are not the usual ones
- `traceparent`: the trace that it belongs to
"""

TELL = """A change of a job's state, kept as the audit log in the stream JOB_EVENTS: a CloudEvent whose payload is the
job as it is now. `<state>` is queued, running, succeeded, failed or cancelled. `ce-type` is `io.sluice.job.<state>`,
`ce-subject` the job's id, `ce-time` when, `ce-by` who made the change and `ce-reason` why. Of progress there are events
`event.job.<job>.progress` without a payload, which are not kept.
"""


def describe_jobs(broker: NatsBroker) -> None:
    """Describe what is published on the job plane; to be called before the broker starts."""
    broker.publisher("job.*.*.*", title="job.<kind>.<priority>.<tenant>", description=ASK, schema=AnyJobSpec)
    broker.publisher("event.job.*.*", title="event.job.<job>.<state>", description=TELL, schema=Job)
    broker.publisher(
        "control.job.*.cancel",
        title="control.job.<job>.cancel",
        description="Whoever runs the job ends it.",
        schema=str,
    )
