"""The kind `pipeline`: a graph of jobs."""

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.pipelines.cache import StepCache
from services.scheduler.pipelines.notifier import JobNotifier
from services.scheduler.pipelines.runner import PipelineRunner
from services.scheduler.pipelines.step import Family
from shared.contracts.jobs import PipelineSpec
from shared.contracts.pipelines import PipelineError, check_pipeline
from shared.contracts.problems import Problem, ProblemType
from shared.stores.dead_letters import DeadLetters

__all__ = ["pipeline"]


@job_kind(PipelineSpec, pool=Pool.FLOW)
def pipeline(dependencies: JobDependencies) -> JobFunction:
    bus, job_store = dependencies.bus, dependencies.job_store
    notifier = JobNotifier(bus.client)
    dead_letters = DeadLetters(bus.client, bus.jetstream)
    cache = StepCache(bus.jetstream, job_store, dependencies.artifacts)

    async def perform(context: JobContext) -> None:
        assert isinstance(context.spec, PipelineSpec)
        try:
            plan = check_pipeline(context.spec)
        except PipelineError as error:
            raise Problem(ProblemType.INVALID_REQUEST, str(error)) from None
        family = Family(
            parent=context.job,
            name=context.spec.name,
            job_store=job_store,
            dead_letters=dead_letters,
            cache=cache,
            watched=set(),
        )
        await PipelineRunner(context, context.spec, plan, family, notifier).run()

    return perform
