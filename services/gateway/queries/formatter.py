"""The format of `/v1/query`: `Answer` as JSON, or the events sources, delta, done and error."""

from collections.abc import Iterable

from pydantic_core import to_json

from services.gateway.http.models import sources_from
from services.gateway.http.problems import problem_body
from services.gateway.http.sse import Event
from services.gateway.queries.assembler import AnswerAssembler, Ended, NewSources, NewText, Part
from services.gateway.queries.pipelines import EMBED, RERANK
from services.gateway.queries.session import QuerySession
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem
from shared.telemetry.tracing import trace_id
from sluice.api.queries import Answer, Done, Sources, Timings

__all__ = ["QueryFormatter", "answer_of", "timings_of"]


class QueryFormatter:
    """The platform's own form. The reasoning of a model is left out."""

    def whole(self, session: QuerySession, ended: Ended) -> bytes:
        return to_json(answer_of(session.query, session.answer, ended, timings_of(session, ended)))

    def part(self, session: QuerySession, part: Part) -> Iterable[Event]:
        match part:
            case NewText(text):
                yield Event(to_json({"text": text}), "delta")
            case NewSources(passages):
                body = Sources(id=session.query.id, sources=sources_from(passages))
                yield Event(to_json(body), "sources")
            case Ended():
                yield Event(to_json(_done(session.query, part, timings_of(session, part))), "done")

    def problem(self, problem: Problem) -> Event:
        return Event(problem_body(problem), "error")


def timings_of(session: QuerySession, ended: Ended) -> Timings:
    return Timings(total_ms=session.elapsed_ms, first_delta_ms=session.first_delta_ms, stages=ended.trail)


def answer_of(query: Query, answer: AnswerAssembler, ended: Ended, timings: Timings) -> Answer:
    """A whole answer."""
    done = _done(query, ended, timings)
    return Answer(**dict(done), answer=answer.text, sources=sources_from(answer.sources))


def _done(query: Query, ended: Ended, timings: Timings) -> Done:
    return Done(
        id=query.id,
        usage=ended.usage,
        timings=timings,
        engine=ended.engine,
        model=ended.model,
        finish=ended.finish,
        cited=ended.cited,
        supported=ended.supported,
        supported_by=ended.supported_by,
        confidence=ended.confidence,
        answerable=ended.answerable,
        searched=ended.searched,
        context=ended.context,
        collection_version=query.collection_version,
        trace_id=trace_id(),
        embedding_model=_stored_model(query, EMBED),
        rerank_model=_stored_model(query, RERANK),
        release=query.release,
    )


def _stored_model(query: Query, stage: str) -> str:
    """The model of the store by which a stage works on the query; none where it uses its own."""
    return next((str(stop.params.get("model", "")) for stop in query.slip if stop.stage == stage), "")
