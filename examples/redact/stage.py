"""An example of your own stage: takes phone numbers out of the passages before the generator sees them.

List it in a pipeline, and run it beside the platform, in as many replicas as needed:

    sluice up --pipelines examples/redact/pipelines.yaml
    SLUICE_NATS_URL=$(cat .sluice/nats.url) python examples/redact/stage.py
"""

import re

from sluice.stages import Context, Query, run_stage

PHONE = re.compile(r"(?<![\w.])\+?\d[\d ()/.-]{6,16}\d(?![\w.])")


async def redact(query: Query, context: Context) -> Query:
    mask = str(context.params.get("mask", "[phone]"))
    return query.with_passages(
        passage.model_copy(update={"text": PHONE.sub(mask, passage.text)}) for passage in query.passages
    )


if __name__ == "__main__":
    run_stage("redact", redact)
