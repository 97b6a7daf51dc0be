"""Pipelines that decide, cache and go several ways at once, where each service has a credential of its own."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import TensorProto, helper

from shared.security.broker_config import read_pipelines
from tests.harness.models import write_graph
from tests.harness.processes import ServiceProcess
from tests.harness.secured_broker import Platform, SecuredBroker, secured_broker, secured_platform
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

FILE = """
pipelines:
  joined:
    - ensemble:
        - {name: judge, then: [{stage: predict, params: {model: echo, texts: {text: question}}}]}
        - {name: search, then: [embed, retrieve]}
    - switch: [{when: "'secret' in branches.judge.outputs.said[0]", then: [{refuse: No secrets.}]}]
    - generate
  cached:
    - {cache: [embed, retrieve], seconds: 60, key: folded}
    - generate
  nested:
    - cache:
        - ensemble:
            - {name: one, then: [embed, retrieve]}
            - {name: two, then: [embed]}
      seconds: 60
    - generate
  looped:
    - {loop: [embed, retrieve], times: 2}
    - splitter: [{weight: 1, then: [{stage: predict, params: {model: echo, texts: {text: question}}}]}]
    - generate
  fallen:
    - embed
    - fallback: [{stage: predict, params: {model: missing, texts: {text: question}}}]
      otherwise: [retrieve]
    - generate
  redacted:
    - ensemble:
        - {name: search, then: [embed, retrieve]}
        - {name: away, then: [redact], seconds: 1}
      quorum: 1
    - generate
  own:
    - embed
    - {cache: [retrieve, shout], seconds: 60}
    - ensemble:
        - {name: loud, then: [shout]}
        - {name: plain, then: [{stage: predict, params: {model: echo, texts: {text: question}}}]}
    - generate
"""
QUESTION = "Who built the blue lamp?"


def write_text_echo(folder: Path) -> None:
    """`model.onnx`: `said` is `text`, any number of texts."""
    write_graph(
        folder,
        [helper.make_node("Identity", ["text"], ["said"])],
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["rows"])],
        [helper.make_tensor_value_info("said", TensorProto.STRING, ["rows"])],
        [],
    )


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "pipelines.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def broker(pipelines: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("broker"), read_pipelines(pipelines)) as secured:
        yield secured


@pytest.fixture(scope="module")
def platform(
    broker: SecuredBroker, pipelines: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Platform, ServiceProcess]]:
    folder = tmp_path_factory.mktemp("platform")
    write_text_echo(folder / "models" / "echo" / "1")
    settings = broker.settings("stage-shout") | {"stage": "shout"}
    own = ServiceProcess("tests.harness.programs.stage", folder / "shout", **settings)
    with secured_platform(broker, folder, pipelines=pipelines) as running, own:
        yield running, own


@pytest.fixture
async def http(platform: tuple[Platform, ServiceProcess]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=platform[0].url, trust_env=False, timeout=60) as http:
        body = {"documents": [{"name": "lamp.txt", "text": "The blue lamp was built by Ottilie Brandt in 1911."}]}
        if (await http.post("/v1/collections", json={"name": "lamps"})).status_code == 201:
            added = await http.post("/v1/collections/lamps/documents", json=body)

            async def indexed() -> bool:
                state = (await http.get(f"/v1/jobs/{added.json()['job']['id']}")).json()["state"]
                return bool(state == "succeeded")

            await until(indexed, "the document is indexed")
        yield http


async def ask(http: httpx.AsyncClient, pipeline: str, **more: Any) -> list[tuple[str, str]]:
    """The stages that the query visited, each with its branch."""
    body = {"question": QUESTION, "collection": "lamps", "pipeline": pipeline, "timeout": 30, **more}
    response = await http.post("/v1/query", json=body)
    assert response.status_code == 200, response.text
    assert "Ottilie" in response.json()["answer"]
    return [(stage["stage"], stage["branch"]) for stage in response.json()["timings"]["stages"]]


EXPECTED = {
    "joined": {("predict", "judge"), ("embed", "search"), ("retrieve", "search"), ("generate", "")},
    "cached": {("embed", ""), ("retrieve", ""), ("generate", "")},
    "nested": {("embed", "one"), ("retrieve", "one"), ("embed", "two"), ("generate", "")},
    "looped": {("embed", ""), ("retrieve", ""), ("predict", ""), ("generate", "")},
    "fallen": {("embed", ""), ("predict", ""), ("retrieve", ""), ("generate", "")},
    "redacted": {("embed", "search"), ("retrieve", "search"), ("redact", "away"), ("generate", "")},
    "own": {("embed", ""), ("retrieve", ""), ("shout", ""), ("shout", "loud"), ("predict", "plain"), ("generate", "")},
}


@pytest.mark.parametrize("pipeline", EXPECTED)
async def test_a_pipeline_works_with_restricted_credentials(
    pipeline: str, platform: tuple[Platform, ServiceProcess], http: httpx.AsyncClient
) -> None:
    assert set(await ask(http, pipeline)) == EXPECTED[pipeline]
    assert ("rerank", "") in await ask(http, pipeline, rerank=True)
    said = [("user", "Tell me of the lamp."), ("assistant", "Which lamp?"), ("user", QUESTION)]
    messages = [{"role": role, "content": text} for role, text in said]
    body = {"model": "rag/lamps", "messages": messages, "sluice": {"pipeline": pipeline}}
    chat = await http.post("/v1/chat/completions", json=body)
    assert "Ottilie" in chat.text, chat.text
    assert violations(*platform) == []


async def test_batches_go_through_every_pipeline(
    platform: tuple[Platform, ServiceProcess], http: httpx.AsyncClient
) -> None:
    bodies = {name: {"question": QUESTION, "collection": "lamps", "pipeline": name} for name in EXPECTED}
    lines = [
        json.dumps({"custom_id": f"{name}-{n}", "method": "POST", "url": "/v1/query", "body": body})
        for name, body in bodies.items()
        for n in range(3)
    ]
    (await http.put("/v1/artifacts/mine/in.jsonl", content="\n".join(lines))).raise_for_status()
    job = (await http.post("/v1/jobs", json={"spec": {"kind": "batch", "input": "mine/in.jsonl"}})).json()["job"]["id"]

    async def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = (await http.get(f"/v1/jobs/{job}")).json()
        return found if found["state"] in ("succeeded", "failed") else None

    done = await until(ended, "the batch")
    assert (done["state"], done["outputs"]["completed"]) == ("succeeded", len(lines)), done
    assert violations(*platform) == []


def violations(platform: Platform, own: ServiceProcess) -> list[str]:
    return [*platform.violations, *(line for line in own.log.splitlines() if "violation" in line)]
