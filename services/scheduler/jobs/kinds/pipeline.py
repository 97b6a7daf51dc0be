"""The kind `pipeline`: a graph of jobs."""

from services.scheduler.jobs.job_context import JobRun
from services.scheduler.jobs.kinds import Parts, Perform, Pool, job_kind
from services.scheduler.pipelines.cache import StepCache
from services.scheduler.pipelines.notifier import JobNews
from services.scheduler.pipelines.runner import RunningPipeline
from services.scheduler.pipelines.step import Family
from shared.contracts.jobs import PipelineSpec
from shared.contracts.pipelines import PipelineError, check_pipeline
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.dead_letters import DeadLetters

__all__: list[str] = []


@job_kind("pipeline", pool=Pool.FLOW)
def pipeline(parts: Parts) -> Perform:
    bus, board = parts.bus, parts.board
    news = JobNews(bus.client)
    letters = DeadLetters(bus.client, bus.jetstream)
    cache = StepCache(bus.jetstream, board, parts.artifacts)

    async def perform(run: JobRun) -> None:
        assert isinstance(run.spec, PipelineSpec)
        try:
            plan = check_pipeline(run.spec)
        except PipelineError as error:
            raise Problem(ProblemType.INVALID_REQUEST, str(error)) from None
        family = Family(parent=run.job, name=run.spec.name, board=board, letters=letters, cache=cache, watched=set())
        await RunningPipeline(run, run.spec, plan, family, news).run()

    return perform
