"""Stages of your own: everything that a stage function needs. Install it with `pip install 'sluice[stage]'`.

    from sluice.stages import Context, Query, run_stage

    async def uppercase(query: Query, context: Context) -> Query:
        return query.with_passages(p.model_copy(update={"text": p.text.upper()}) for p in query.passages)

    run_stage("uppercase", uppercase)

A stage function receives an immutable `Query` and returns a copy with its additions. It may run several times at once,
and may be cancelled at any `await`. It raises `Problem` for a query that can never succeed; any other exception means
another try.
"""

from shared.contracts.envelope import Message, Passage, Query
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context
from shared.service.process import run_stage

__all__ = ["Context", "Message", "Passage", "Problem", "ProblemType", "Query", "run_stage"]
