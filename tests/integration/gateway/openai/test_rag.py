"""Answers from documents through the real SDK of OpenAI."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from shared.contracts.envelope import Passage, Query
from shared.contracts.events import Usage
from shared.contracts.generation import ContextReport, GenerateParams
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, openai_client_async
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

QUESTION: list[Any] = [{"role": "user", "content": "How long?"}]
LINKED = {"url": "https://example.org/warranty"}
FOUND = tuple(
    Passage(
        id=f"d{n}:0", document_id=f"d{n}", document=f"a dir/{n}.md", position=0, text=f"passage {n}", metadata=metadata
    )
    for n, metadata in ((1, LINKED), (2, {}), (3, {}))
)
ANSWER = "24 months [1], or `x[2]` [2, 9]."


@pytest.fixture
async def client(gateway: ServiceProcess) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client_async(gateway) as client:
        yield client


@pytest.fixture
async def stages(broker: NatsServer) -> AsyncIterator[Stages]:
    stages = Stages(broker.url)
    stages.models["generate"] = MODEL
    stages.does |= {"retrieve": find, "generate": cite}
    async with stages.running(("condense", "embed", "retrieve", "generate")):
        yield stages


async def find(query: Query, _: Context) -> Query:
    return query.with_passages(FOUND)


async def cite(query: Query, context: Context) -> None:
    await context.sources(query.passages)
    await context.delta(ANSWER[:10])
    await context.delta(ANSWER[10:])
    report = ContextReport(window=64, prompt_tokens=60, dropped=(3,))
    await context.done(usage=Usage(), engine="tiny", model=MODEL, cited=(1, 2), context=report)


def spans(annotations: list[Any]) -> list[tuple[str, str]]:
    """Each annotation as its URL and the text that it marks."""
    cited = [annotation["url_citation"] for annotation in annotations]
    return [(one["url"], ANSWER[one["start_index"] : one["end_index"]]) for one in cited]


async def test_an_answer_has_its_sources_and_marks_its_citations(client: AsyncOpenAI, stages: Stages) -> None:
    answer = await client.chat.completions.create(model="rag/docs", messages=QUESTION)
    assert (answer.model, answer.choices[0].message.content) == ("rag/docs", ANSWER)
    said = (answer.model_extra or {})["sluice"]
    assert [source["text"] for source in said["sources"]] == ["passage 1", "passage 2", "passage 3"]
    assert (said["cited"], said["model"]) == ([1, 2], MODEL)
    assert (said["context"]["dropped"], said["context"]["shortened"]) == ([3], [])
    assert [stage["stage"] for stage in said["timings"]["stages"]] == ["embed", "retrieve", "generate"]
    annotations = answer.choices[0].message.annotations or []
    assert spans([annotation.model_dump() for annotation in annotations]) == [
        ("https://example.org/warranty", "[1]"),
        ("sluice://docs/a%20dir/2.md", "[2, 9]"),
    ]
    assert annotations[0].url_citation.title == "a dir/1.md"


async def test_a_stream_brings_sources_first_and_annotations_last(client: AsyncOpenAI, stages: Stages) -> None:
    stream = await client.chat.completions.create(model="rag/docs", messages=QUESTION, stream=True)
    first, *_, last = [chunk async for chunk in stream]
    assert first.choices[0].delta.role == "assistant"
    assert len((first.model_extra or {})["sluice"]["sources"]) == 3
    end: Any = last.choices[0]
    assert end.finish_reason == "stop"
    assert [text for _, text in spans(end.delta.annotations)] == ["[1]", "[2, 9]"]
    said = (last.model_extra or {})["sluice"]
    assert (said["cited"], said["context"]["dropped"]) == ([1, 2], [3])
    assert "sources" not in said


async def test_the_sdk_s_own_stream_helper_puts_the_answer_together(client: AsyncOpenAI, stages: Stages) -> None:
    async with client.chat.completions.stream(model="rag/docs", messages=QUESTION) as events:
        whole = await events.get_final_completion()
    message = whole.choices[0].message
    assert message.content == ANSWER
    assert len(message.annotations or []) == 2


@pytest.mark.parametrize(
    ("model", "options", "table"),
    [
        ("rag", {}, "default-"),
        ("rag/docs", {"top_k": 2, "filter": {"year": 2024}}, "docs-"),
        (MODEL, {"collection": "docs"}, "docs-"),
        (MODEL, {"top_k": 2}, "default-"),
        (MODEL, {"pipeline": "default"}, "default-"),
    ],
)
async def test_the_model_or_the_extra_member_says_which_documents_are_asked(
    client: AsyncOpenAI, stages: Stages, model: str, options: dict[str, Any], table: str
) -> None:
    await client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, extra_body={"sluice": {"conversation": "c1", **options}}
    )
    (query,) = stages.given["retrieve"]
    assert query.collection.startswith(table)
    assert query.question == "How long?"
    assert query.stop.params == {"top_k": options.get("top_k", 5), "filter": options.get("filter")}
    (generated,) = stages.given["generate"]
    assert GenerateParams.of(generated.stop.params) == GenerateParams(temperature=0)


async def test_options_that_name_no_documents_leave_a_chat_a_chat(client: AsyncOpenAI, stages: Stages) -> None:
    options = {"sluice": {"conversation": "c1", "timeout": 20}}
    await client.chat.completions.create(model=MODEL, messages=QUESTION, extra_body=options)
    (query,) = stages.given["generate"]
    assert [stop.stage for stop in query.slip] == ["generate"]
    assert query.deadline - query.asked_at == pytest.approx(20)


async def test_a_follow_up_is_made_to_stand_alone_before_its_documents_are_looked_for(
    client: AsyncOpenAI, stages: Stages
) -> None:
    async def condense(query: Query, _: Context) -> Query:
        return query.model_copy(update={"question": "How long is the warranty of the kettle?"})

    stages.does["condense"] = condense
    turns: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Has the kettle a warranty?"},
        {"role": "assistant", "content": "Yes."},
        *QUESTION,
    ]
    await client.chat.completions.create(model="rag/docs", messages=turns)
    assert stages.given["condense"][0].question == "How long?"
    (query,) = stages.given["retrieve"]
    assert query.question == "How long is the warranty of the kettle?"
    assert [turn.role for turn in query.messages] == ["system", "user", "assistant"]


async def test_a_first_question_goes_straight_to_the_documents(client: AsyncOpenAI, stages: Stages) -> None:
    turns: list[Any] = [{"role": "system", "content": "Be brief."}, *QUESTION]
    await client.chat.completions.create(model="rag/docs", messages=turns)
    assert stages.given["condense"] == []
    assert [turn.content for turn in stages.given["generate"][0].messages] == ["Be brief."]
