"""The platform with the language model that comes as a package: real words, from real documents, with citations.

It is a weak model. So the tests check what the platform promises of its answers, and few of its words.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.generator.engines.vllm.packaged import PACKAGED, PackagedName, convert
from sluice.api.queries import Answer, Delta, Done, Sources
from sluice.cli import app
from tests.harness.platform import Platform

MODEL = PACKAGED[PackagedName.SMOLLM2]

pytestmark = [
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(find_spec("vllm") is None or MODEL.source is None, reason="run `make test`, which installs it"),
]

PATIENCE = 400.0
"""Seconds until the generator is ready, beside other tests: the libraries alone take a minute."""

TIMEOUT = 590.0
"""Seconds for an answer, with a restart of the generator in it: as long as its first start, and the answer."""

DOCUMENTS = {
    "blue.md": "The blue lamp was built by Ottilie Brandt in 1911. It stands at the harbour of Sundsholm.",
    "ferries.md": "The ferry Njord leaves for Rauma at a quarter past six. A ticket costs 12 euros.",
}
SCHEMA = {
    "type": "object",
    "properties": {"year": {"type": "integer", "minimum": 1000, "maximum": 2100}},
    "required": ["year"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Converted:
    models: Path
    reports: list[str]
    after_kill: list[str]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The converted model, after a conversion that was killed in the middle."""
    import anyio

    models = tmp_path_factory.mktemp("models")
    program = "services.generator.engines.vllm.conversion"
    command = [sys.executable, "-m", program, str(MODEL.source), str(MODEL.folder(models))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as killed:
        assert killed.stdout is not None
        while "weights" not in killed.stdout.readline():
            assert killed.poll() is None
        killed.kill()
    after_kill = sorted(entry.name for entry in models.iterdir() if not entry.name.startswith("."))
    reports: list[str] = []
    anyio.run(convert, MODEL, models, reports.append)
    return Converted(models, reports, after_kill)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, converted: Converted) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("packaged-model")
    (folder / "data").mkdir()
    (folder / "data" / "models").symlink_to(converted.models)
    pipelines = folder / "pipelines.yaml"
    pipelines.write_text(
        "pipelines:\n  expanded: [{stage: expand, params: {seconds: 90}}, embed, retrieve, generate]\n"
    )
    with Platform(folder, pipelines=pipelines, patience=PATIENCE, llm="smollm2", longest_deadline=600) as running:
        with running.client() as client:
            client.create_collection("lamps")
            assert client.wait(client.add_texts("lamps", DOCUMENTS).id).state == "succeeded"
        yield running
    shutil.rmtree(folder, ignore_errors=True)


def ask(platform: Platform, question: str, *, generate: dict[str, Any] | None = None, **more: Any) -> Answer:
    body = {"question": question, "collection": "lamps", "timeout": TIMEOUT, "generate": generate or {}} | more
    response = httpx.post(f"{platform.url}/v1/query", json=body, trust_env=False, timeout=TIMEOUT)
    assert response.is_success, response.text
    return Answer.model_validate(response.json())


def test_a_conversion_that_was_killed_leaves_no_model_and_the_next_one_is_whole(converted: Converted) -> None:
    assert converted.after_kill == []
    folder = MODEL.folder(converted.models)
    assert {file.name for file in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    assert [report.rpartition("(")[2] for report in converted.reports] == [f"{n} of 4)" for n in range(1, 5)]


def test_a_second_start_does_not_convert_again(platform: Platform, converted: Converted) -> None:
    log = (platform.data / "logs" / "generator.log").read_text()

    assert "vLLM has started" in log
    assert "converting" not in log


def test_a_streamed_answer_is_in_the_models_words_with_valid_citations(platform: Platform) -> None:
    with platform.client(timeout=TIMEOUT) as client:
        events = list(client.stream("When was the blue lamp built?", collection="lamps", timeout=TIMEOUT))
    (sources,) = (event.sources for event in events if isinstance(event, Sources))
    (done,) = (event for event in events if isinstance(event, Done))
    text = "".join(event.text for event in events if isinstance(event, Delta))

    assert "1911" in text
    assert (done.engine, done.model, done.finish) == ("vllm", "smollm2", "stop")
    (blue,) = (source.index for source in sources if source.document == "blue.md")
    assert blue in done.cited
    assert f"[{blue}]" in text
    assert [text[one.start : one.end] for one in done.supported] == [one.sentence for one in done.supported]
    assert done.supported[0].supported
    assert blue in done.supported[0].sources
    assert done.supported_by == "meaning"


def test_what_no_source_says_is_marked_or_left_out(platform: Platform) -> None:
    question = "How old is the captain of the ferry Njord, and what is his name?"
    marked = ask(platform, question)
    assert not all(one.supported for one in marked.supported), marked.answer

    dropped = ask(platform, question, generate={"unsupported": "drop"})
    assert all(one.supported == (one.start < one.end) for one in dropped.supported)
    assert not any(one.sentence in dropped.answer for one in dropped.supported if not one.supported)


def test_a_follow_up_question_is_understood(platform: Platform) -> None:
    turns = [
        {"role": "user", "content": "When was the blue lamp built?"},
        {"role": "assistant", "content": "The blue lamp was built in 1911."},
    ]
    answer = ask(platform, "Where does it stand?", messages=turns)

    assert answer.timings.stages[0].stage == "condense"
    assert answer.sources[0].document == "blue.md"
    assert answer.answer


def test_a_question_is_searched_for_in_other_words(platform: Platform) -> None:
    answer = ask(platform, "When was the blue lamp built?", pipeline="expanded")

    assert [stage.stage for stage in answer.timings.stages] == ["expand", "embed", "retrieve", "generate"]
    assert answer.searched is not None
    assert answer.searched.question == "When was the blue lamp built?"
    assert answer.searched.passage or answer.searched.paraphrases
    assert answer.sources[0].document == "blue.md"


def test_the_model_writes_questions_that_can_be_evaluated(platform: Platform, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    command = ["evaluate", str(questions), "--collection", "lamps", "--url", platform.url]
    first = CliRunner().invoke(app, [*command, "--generate", "2"])
    assert first.exit_code == 0, first.output
    lines = [json.loads(line) for line in questions.read_text().splitlines()]
    assert 1 <= len(lines) <= 2
    assert all(line["question"].endswith("?") and line["synthetic"] for line in lines)
    assert {line["sources"][0] for line in lines} <= set(DOCUMENTS)
    assert "is there already" in CliRunner().invoke(app, [*command, "--generate", "2"]).output
    second = CliRunner().invoke(app, [*command, "--json"])
    assert second.exit_code == 0, second.output
    assert json.loads(second.stdout)["metrics"]["questions"] == len(lines)


def test_an_answer_can_be_made_to_follow_a_json_schema(platform: Platform) -> None:
    answer = ask(platform, "In which year was the blue lamp built?", generate={"output": {"json_schema": SCHEMA}})

    assert 1000 <= json.loads(answer.answer)["year"] <= 2100
    assert answer.supported == ()


def test_an_answer_survives_a_generator_that_is_killed_in_the_middle(platform: Platform) -> None:
    """There is one generator: the supervisor starts it again, and it goes on."""
    tokens = 100
    pid = platform.state.services["generator"].pid
    assert pid is not None
    before: list[str] = []
    text: list[str] = []
    with platform.client(timeout=TIMEOUT) as client:
        options = {"ignore_eos": True, "max_tokens": tokens, "temperature": 0}
        for event in client.stream("Who built the blue lamp?", collection="lamps", timeout=TIMEOUT, generate=options):
            if isinstance(event, Delta):
                text.append(event.text)
                if not before:
                    before = list(text)
                    os.kill(pid, signal.SIGKILL)
            elif isinstance(event, Done):
                done = event

    assert "".join(text).startswith("".join(before))
    assert len("".join(text)) > len("".join(before))
    assert (done.finish, done.usage.completion_tokens >= tokens) == ("length", True)
    assert platform.metric("gateway", "sluice_gateway_answers_handed_over_total") > 0
    assert platform.state.services["generator"].restarts > 0
