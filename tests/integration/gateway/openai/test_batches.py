"""OpenAI's Files and Batches API with the real SDK: a gateway, a scheduler, and stages that a test directs."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from shared.contracts.envelope import Lane, Query, pack_vector
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, openai_client_async, running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages, answer_with

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
VECTORS = "vectors-1"


def chat(number: int, **more: Any) -> dict[str, Any]:
    """A line of a batch."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}], **more}
    return {"custom_id": f"c{number}", "method": "POST", "url": CHAT, "body": body}


def jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


class BatchHarness:
    """The SDK on a gateway, and the stages behind it."""

    def __init__(self, gateway: ServiceProcess, client: openai.AsyncOpenAI, stages: Stages) -> None:
        self.gateway = gateway
        self.stages = stages
        self.client = client

    async def create(self, lines: Sequence[Any], endpoint: str = CHAT, window: str = "24h") -> Batch:
        data = lines if isinstance(lines, bytes) else jsonl(lines)
        file = await self.client.files.create(file=("lines.jsonl", data), purpose="batch")
        return await self.client.batches.create(
            input_file_id=file.id,
            endpoint=endpoint,  # type: ignore[arg-type]
            completion_window=window,  # type: ignore[arg-type]
            metadata={"nightly": "yes"},
        )

    async def ended(self, batch: Batch) -> Batch:
        return await self.seen(batch, lambda now: now.status in ("completed", "failed", "expired", "cancelled"))

    async def seen(self, batch: Batch, condition: Callable[[Batch], bool]) -> Batch:
        async def look() -> Batch | None:
            now = await self.client.batches.retrieve(batch.id)
            return now if condition(now) else None

        found: Batch = await until(
            look, f"the batch as wanted, which is {await self.client.batches.retrieve(batch.id)}"
        )
        return found

    async def lines_in_work(self, pid: int) -> int:
        """How many lines the gateway with this process id is answering."""
        async with httpx.AsyncClient(base_url=self.gateway.url, trust_env=False) as http:
            services = (await http.get("/v1/status")).json()["services"]
        (gateway,) = [service for service in services if service["instance"].endswith(f"-{pid}")]
        return int(gateway["stages"][0]["lane_in_flight"]["batch"])

    async def lines(self, file: str | None) -> list[dict[str, Any]]:
        if file is None:
            return []
        text = (await self.client.files.content(file)).text
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    return {"ack_wait": 1.0, "batch_concurrency": 8, "request_room": 4}


@pytest.fixture(scope="module")
def scheduler(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with scheduling(broker, tmp_path_factory.mktemp("scheduler")) as process:
        yield process


def scheduling(broker: NatsServer, folder: Path) -> ServiceProcess:
    return ServiceProcess("services.scheduler", folder, nats_url=broker.url, ack_wait=1.0, reader_workers=1)


@pytest.fixture
async def harness(
    broker: NatsServer, gateway: ServiceProcess, scheduler: ServiceProcess
) -> AsyncIterator[BatchHarness]:
    async with working(broker, gateway) as harness:
        yield harness


@asynccontextmanager
async def working(broker: NatsServer, gateway: ServiceProcess) -> AsyncIterator[BatchHarness]:
    stages = Stages(broker.url, ack_wait=1.0)
    stages.models = {"generate": MODEL, "embed": VECTORS}
    async with stages.running(), openai_client_async(gateway, retries=3) as client:
        harness = BatchHarness(gateway, client, stages)

        async def known() -> bool:
            return {MODEL, VECTORS} <= {model.id for model in (await harness.client.models.list()).data}

        await until(known, "the models known")
        yield harness


class Held:
    """A generator whose answers wait until the test lets them go."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._free = 0
        self._changed = asyncio.Condition()

    async def __call__(self, query: Query, context: Context) -> None:
        async with self._changed:
            self.seen[query.messages[-1].content or ""] += 1
            await self._changed.wait_for(lambda: self._free > 0)
            self._free -= 1
        await answer_with(f"to {query.messages[-1].content}")(query, context)

    async def release(self, count: int) -> None:
        async with self._changed:
            self._free += count
            self._changed.notify_all()


async def test_a_batch_is_uploaded_answered_and_downloaded_with_the_sdk(harness: BatchHarness) -> None:
    batch = await harness.create([chat(number) for number in range(25)])
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", CHAT, "24h")
    assert batch.metadata == {"nightly": "yes"}
    done = await harness.ended(batch)
    assert (done.status, done.errors, done.error_file_id) == ("completed", None, None)
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 25, "completed": 25, "failed": 0}
    assert done.completed_at is not None
    lines = await harness.lines(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"c{number}" for number in range(25)]
    first = lines[0]
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    answer = first["response"]["body"]
    assert (answer["object"], answer["model"]) == ("chat.completion", MODEL)
    assert answer["choices"][0]["message"]["content"] == "Hello world"
    assert all(query.lane is Lane.BATCH for query in harness.stages.given["generate"])


async def test_a_line_answers_what_the_same_request_over_http_answers(harness: BatchHarness) -> None:
    lines = [chat(1), chat(2, model="nobody"), chat(3, messages=[]), chat(4, n=2), chat(5, max_tokens=-1)]
    done = await harness.ended(await harness.create(lines))
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 5, "completed": 1, "failed": 4}
    told = [*await harness.lines(done.output_file_id), *await harness.lines(done.error_file_id)]
    async with httpx.AsyncClient(base_url=harness.gateway.url, trust_env=False) as http:
        for line, result in zip(lines, told, strict=True):
            assert result["custom_id"] == line["custom_id"]
            over_http = await http.post(CHAT, json=line["body"])
            assert result["response"]["status_code"] == over_http.status_code
            assert _shape(result["response"]["body"]) == _shape(over_http.json())
            assert len(result["response"]["request_id"]) == 32


def _shape(body: dict[str, Any]) -> Any:
    return {key: body["error"][key] for key in ("message", "code", "param")} if "error" in body else sorted(body)


async def test_questions_and_completions_can_be_asked_as_well(harness: BatchHarness) -> None:
    questions = await harness.create([{"question": "What?"}, {"custom_id": "b", "question": ""}], "/v1/query")
    asked = await harness.ended(questions)
    (answer,) = await harness.lines(asked.output_file_id)
    assert (answer["custom_id"], answer["response"]["body"]["answer"]) == ("line-1", "Hello world")
    (refused,) = await harness.lines(asked.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("b", 422)

    url = "/v1/completions"
    line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": MODEL, "prompt": "Once"}}
    (told,) = await harness.lines((await harness.ended(await harness.create([line], url))).output_file_id)
    assert told["response"]["body"]["choices"][0]["text"] == "Hello world"


async def test_bodies_larger_than_a_message_of_the_broker_go_beside_it(harness: BatchHarness) -> None:
    async def embed(query: Query, _: Context) -> Query:
        vector = pack_vector([0.123456789] * 100)
        return query.with_passages(passage.model_copy(update={"vector": vector}) for passage in query.passages)

    harness.stages.does["embed"] = embed
    url = "/v1/embeddings"
    texts = ["word " * 200] * 1200
    line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": VECTORS, "input": texts}}
    done = await harness.ended(await harness.create([line, line | {"custom_id": "b"}], url))
    told = await harness.lines(done.output_file_id)
    assert [len(one["response"]["body"]["data"]) for one in told] == [1200, 1200]
    assert len(told[0]["response"]["body"]["data"][1199]["embedding"]) == 100


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([chat(1), b"{not json"], "invalid_json_line", 2),
        ([chat(1), chat(2), chat(1)], "duplicate_custom_id", 3),
        ([chat(1) | {"url": "/v1/embeddings"}], "invalid_url", 1),
        ([chat(1) | {"method": "GET"}], "invalid_method", 1),
        ([chat(1, stream=True)], "invalid_value", 1),
        ([{"method": "POST", "url": CHAT, "body": {}}], "missing_required_parameter", 1),
        ([], "empty_file", None),
    ],
)
async def test_a_file_that_cannot_be_used_fails_the_batch_before_anything_is_asked(
    harness: BatchHarness, lines: list[Any], code: str, number: int | None
) -> None:
    before = len(harness.stages.given["generate"])
    failed = await harness.ended(await harness.create(lines))
    assert failed.status == "failed"
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(error.code, error.line) for error in failed.errors.data] == [(code, number)]
    assert failed.output_file_id is None
    assert len(harness.stages.given["generate"]) == before


async def test_a_cancelled_batch_keeps_what_was_answered(harness: BatchHarness) -> None:
    held = Held()
    harness.stages.does["generate"] = held
    batch = await harness.create([chat(number) for number in range(40)])
    await held.release(10)
    await harness.seen(batch, lambda now: now.request_counts is not None and now.request_counts.completed == 10)
    cancelled = await harness.client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    done = await harness.ended(batch)
    assert done.status == "cancelled"
    assert done.cancelled_at is not None
    lines = await harness.lines(done.output_file_id)
    assert len({line["custom_id"] for line in lines}) == len(lines) == 10
    with pytest.raises(openai.ConflictError):
        await harness.client.batches.cancel(batch.id)


async def test_what_is_not_answered_in_time_expires(harness: BatchHarness) -> None:
    held = Held()
    harness.stages.does["generate"] = held
    await held.release(3)
    done = await harness.ended(await harness.create([chat(number) for number in range(10)], window="4s"))
    assert (done.status, done.errors) == ("expired", None)
    assert len(await harness.lines(done.output_file_id)) == 3
    late = await harness.lines(done.error_file_id)
    assert [line["error"]["code"] for line in late] == ["batch_expired"] * 7
    assert all(line["response"] is None for line in late)


async def test_a_full_queue_and_a_missing_worker_are_waited_for(harness: BatchHarness) -> None:
    refusals = iter([ProblemType.QUEUE_FULL, ProblemType.STAGE_UNAVAILABLE, ProblemType.ENGINE_FAILED])

    async def generate(query: Query, context: Context) -> None:
        if (refusal := next(refusals, None)) is not None:
            raise Problem(refusal, "Not now.")
        await answer_with("at last")(query, context)

    harness.stages.does["generate"] = generate
    done = await harness.ended(await harness.create([chat(1)]))
    (line,) = await harness.lines(done.output_file_id)
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "at last"


async def test_what_fails_again_and_again_fails_its_line_alone(harness: BatchHarness) -> None:
    async def generate(query: Query, context: Context) -> None:
        if query.messages[-1].content == "question 1":
            raise Problem(ProblemType.ENGINE_FAILED, "Out of tune.")
        await answer_with("fine")(query, context)

    harness.stages.does["generate"] = generate
    done = await harness.ended(await harness.create([chat(0), chat(1), chat(2)]))
    assert done.status == "completed"
    assert [line["custom_id"] for line in await harness.lines(done.output_file_id)] == ["c0", "c2"]
    (failed,) = await harness.lines(done.error_file_id)
    assert failed["response"]["status_code"] == 502
    assert failed["response"]["body"]["error"]["code"] == "engine-failed"


async def test_the_scheduler_dies_in_the_middle_and_every_line_is_answered_once(tmp_path: Path) -> None:
    held = Held()
    with (
        NatsServer(tmp_path / "nats") as broker,
        running_gateway(broker, tmp_path, ack_wait=1.0) as gateway,
        scheduling(broker, tmp_path) as scheduler,
    ):
        async with working(broker, gateway) as harness:
            harness.stages.does["generate"] = held
            batch = await harness.create([chat(number) for number in range(150)])
            await held.release(120)
            # The first hundred results are kept as a part; those after them are not yet.
            await harness.seen(
                batch, lambda now: now.request_counts is not None and now.request_counts.completed == 120
            )
            scheduler.kill()
            with scheduling(broker, tmp_path / "second"):
                await held.release(1000)
                done = await harness.ended(batch)
            lines = await harness.lines(done.output_file_id)
    assert done.status == "completed"
    assert [line["custom_id"] for line in lines] == [f"c{number}" for number in range(150)]
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == [
        f"to question {number}" for number in range(150)
    ]
    assert sum(count == 1 for count in held.seen.values()) >= 100


async def test_a_gateway_dies_in_the_middle_and_another_one_answers(
    broker: NatsServer, gateway: ServiceProcess, scheduler: ServiceProcess, tmp_path: Path
) -> None:
    held = Held()
    async with working(broker, gateway) as harness:
        harness.stages.does["generate"] = held
        with ServiceProcess("services.gateway", tmp_path, nats_url=broker.url, ack_wait=1.0) as second:
            batch = await harness.create([chat(number) for number in range(60)])
            await held.release(20)
            await harness.seen(batch, lambda now: now.request_counts is not None and now.request_counts.completed == 20)
            assert await harness.lines_in_work(second.pid) > 0
            second.kill()
            await held.release(1000)
            done = await harness.ended(batch)
        assert (done.status, done.error_file_id) == ("completed", None)
        lines = await harness.lines(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"c{number}" for number in range(60)]


async def test_files_are_listed_described_downloaded_and_deleted(harness: BatchHarness) -> None:
    data = b"x" * 3_000_000
    file = await harness.client.files.create(file=("grün.jsonl", data), purpose="batch")
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(data), "grün.jsonl", "batch", "processed")
    assert file.expires_at is not None
    assert (await harness.client.files.retrieve(file.id)) == file
    assert (await harness.client.files.content(file.id)).content == data
    newest = await harness.client.files.list(purpose="batch", limit=1)
    assert [one.id for one in newest.data] == [file.id]
    assert (await harness.client.files.delete(file.id)).deleted
    for attempt in (harness.client.files.retrieve, harness.client.files.content):
        with pytest.raises(openai.NotFoundError):
            await attempt(file.id)


async def test_files_and_batches_are_listed_page_by_page(harness: BatchHarness) -> None:
    made = [await harness.create([chat(1)]) for _ in range(5)]
    ids = [batch.id async for batch in harness.client.batches.list(limit=2)]
    assert ids[:5] == [batch.id for batch in reversed(made)]
    files = [file.id async for file in harness.client.files.list(limit=2)]
    assert len(set(files)) == len(files)
    assert {batch.input_file_id for batch in made} <= set(files)
    with pytest.raises(openai.NotFoundError):
        await harness.client.batches.list(after="batch_nothing")


async def test_what_is_wrong_with_a_request_is_told_as_openai_tells_it(harness: BatchHarness) -> None:
    create: Any = harness.client.batches.create
    with pytest.raises(openai.NotFoundError) as missing:
        await create(input_file_id="file-nothing", endpoint=CHAT, completion_window="24h")
    assert missing.value.param == "input_file_id"
    with pytest.raises(openai.BadRequestError) as wrong:
        await create(input_file_id="file-nothing", endpoint="/v1/images", completion_window="24h")
    assert wrong.value.param == "endpoint"
    upload: Any = harness.client.files.create
    with pytest.raises(openai.BadRequestError) as purpose:
        await upload(file=("a.jsonl", b"{}"), purpose="fine-tune")
    assert purpose.value.param == "purpose"
    for look in (harness.client.batches.retrieve, harness.client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            await look("batch_nothing")


async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    broker: NatsServer, tmp_path: Path, scheduler: ServiceProcess
) -> None:
    with running_gateway(broker, tmp_path, max_batch_file_bytes=1000) as small:
        async with openai_client_async(small) as client:
            with pytest.raises(openai.APIStatusError) as refused:
                await client.files.create(file=("a.jsonl", b"x" * 1001), purpose="batch")
            assert (refused.value.status_code, refused.value.param) == (413, "file")
            assert all(file.bytes != 1001 for file in (await client.files.list()).data)


async def test_the_same_idempotency_key_makes_one_batch(harness: BatchHarness) -> None:
    file = await harness.client.files.create(file=("a.jsonl", jsonl([chat(1)])), purpose="batch")
    made = [
        await harness.client.batches.create(
            input_file_id=file.id,
            endpoint=CHAT,
            completion_window="24h",
            extra_headers={"Idempotency-Key": "tonight"},
        )
        for _ in range(2)
    ]
    assert made[0].id == made[1].id
