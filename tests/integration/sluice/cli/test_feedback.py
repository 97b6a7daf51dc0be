"""`sluice feedback`, `sluice routes compare`, and the client's feedback, against a real gateway."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

import sluice
from services.gateway.answers.store import AnswerStore
from sluice.api.feedback import Feedback, KeptAnswer
from sluice.api.queries import Source
from sluice.cli import main
from tests.harness.authenticated_gateway import ADMIN, authenticated_gateway
from tests.harness.broker import NatsServer

Run = Callable[..., tuple[int, str, str]]

SOURCES = tuple(Source(index=index, document=f"doc{index}.txt", text="text") for index in (1, 2))
LIVE = KeptAnswer(
    id="00000000001aaaaaaaaaaaa", answer="36 months", question="How long?", sources=SOURCES, reader="user:ines", key="k"
)
SHADOW = LIVE.model_copy(update={"answer": "24 months", "stage": "generate", "variant": "canary"})


@pytest.fixture(scope="module")
def url(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with authenticated_gateway(broker, tmp_path_factory.mktemp("gateway"), keep_answers=True) as gateway:
        yield gateway.process.url


@pytest.fixture
def client(url: str, broker: NatsServer) -> Iterator[sluice.Client]:
    """An admin's client, with one answer that is kept, and that of a shadow."""
    asyncio.run(keep(broker))
    with sluice.Client(url, api_key=ADMIN) as client:
        yield client
        client.erase_reader("user:ines")


async def keep(broker: NatsServer) -> None:
    connection = await nats.connect(broker.url)
    store = AnswerStore(connection.jetstream())
    for answer in (LIVE, SHADOW):
        await store.put("default", answer)
    await connection.close()


@pytest.fixture
def run(client: sluice.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sluice ARG...` as an admin: exit status, output, error output."""
    monkeypatch.setenv("SLUICE_URL", client.url)
    monkeypatch.setenv("SLUICE_API_KEY", ADMIN)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


def test_feedback_is_given_and_listed(run: Run) -> None:
    given = run("feedback", "give", LIVE.id, "--down", "--correction", "24 months", "--wrong-source", "2", "-t", "old")
    assert given[0] == 0, given
    run("feedback", "give", LIVE.id, "--right-source", "1")
    status, output, _ = run("feedback", "--rating", "down", "--json")
    (found,) = json.loads(output)
    assert status == 0
    assert (found["answer"], found["rating"], found["correction"], found["tags"]) == (
        LIVE.id,
        "down",
        "24 months",
        ["old"],
    )
    assert found["sources"] == [{"index": 1, "relevant": True}, {"index": 2, "relevant": False}]
    assert run("feedback", "--rating", "up", "--json")[1] == "[]\n"
    _, table, _ = run("feedback", "list")
    assert table.split("\t")[:2] == [LIVE.id, "down"]
    assert table.rstrip("\n").split("\t")[-2:] == ["How long?", "24 months"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--up", "--down"), "not both"),
        ((), "say something"),
        (("--wrong-source", "9"), "the answer has 2 sources, and no 9"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(run: Run, arguments: tuple[str, ...], said: str) -> None:
    status, _, errors = run("feedback", "give", LIVE.id, *arguments)
    assert status in (1, 2)
    assert said in " ".join(errors.replace("│", " ").split())


def test_a_comment_does_nothing_to_the_terminal_of_who_reads_it(run: Run, client: sluice.Client) -> None:
    client.give_feedback(LIVE.id, comment="\x1b]0;owned\x07 no\r\n\x9b31m \u202e good")
    assert run("feedback", "list")[1].rstrip("\n").split("\t")[-1] == "]0;owned no 31m  good"


def test_an_unknown_answer_says_what_to_set(run: Run) -> None:
    status, _, errors = run("feedback", "give", "0" * 23, "--up")
    assert status == 1
    assert "SLUICE_KEEP_ANSWERS" in errors


def test_a_readers_data_are_exported_and_erased(run: Run, client: sluice.Client, tmp_path: Path) -> None:
    client.give_feedback(LIVE.id, rating="up")
    status, _, errors = run("feedback", "export", "user:ines", "-o", str(tmp_path / "ines.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "ines.jsonl").read_text().splitlines()]
    assert (status, errors) == (0, f"{tmp_path / 'ines.jsonl'}: 3 records\n")
    assert [list(line) for line in lines] == [["answer"], ["answer"], ["feedback"]]
    assert [line["answer"]["answer"] for line in lines[:2]] == ["36 months", "24 months"]
    assert [type(record) for record in client.export_reader("user:ines")] == [KeptAnswer, KeptAnswer, Feedback]
    status, _, errors = run("feedback", "export", "user:ines", "-o", str(tmp_path / "missing" / "ines.jsonl"))
    assert (status, "No such file" in errors) == (2, True)
    assert run("feedback", "erase", "user:ines", "--yes")[1] == "Erased 1 answers, 1 feedback and 0 payloads.\n"
    assert client.export_reader("user:ines") == []
    assert client.kept_answers().answers == ()


def test_the_answers_of_a_shadow_are_shown_beside_the_live_ones(run: Run, client: sluice.Client) -> None:
    assert client.kept_answer(LIVE.id).answer == "36 months"
    (found,) = client.comparisons("generate", "canary").comparisons
    assert (found.live.answer, found.shadow.answer, found.text_overlap) == ("36 months", "24 months", 0.5)
    status, output, _ = run("routes", "compare", "generate")
    assert status == 0
    assert "How long?  words 50%, sources 100% the same" in output
    assert "live, 0 ms: 36 months" in output
    assert "canary, 0 ms: 24 months" in output
    client.delete_answer(LIVE.id)
    assert "No shadow" in run("routes", "compare", "generate", "canary")[1]
