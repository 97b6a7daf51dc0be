"""Answers that are kept, and what readers say of them, through a real gateway and broker."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from sluice import Client
from sluice.api.feedback import KeptAnswer
from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.job_harness import open_job_harness
from tests.harness.stage_harness import until
from tests.harness.stages import ALL, Stages

pytestmark = pytest.mark.anyio

ASKED = {"question": "Who has the key? Mail ines@harbour.example"}
SECRET = "a secret of the application, which signs who asks"


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with authenticated_gateway(broker, folder, keep_answers=True, identity_secret=SECRET) as running:
        yield running


@asynccontextmanager
async def asked(gateway: AuthenticatedGateway, broker: NatsServer, client: httpx.Client) -> AsyncIterator[Any]:
    """The caller with a collection, all stages, and one answer."""
    async with Stages(broker.url).running((*ALL, "condense")), asynchronous(client) as http:
        await http.post("/v1/collections", json={"name": "default"})
        yield http, await ask(http)


@asynccontextmanager
async def asynchronous(
    client: httpx.Client, user: str = "", groups: tuple[str, ...] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    headers = dict(client.headers)
    if user or groups:
        claims = {"groups": groups, "exp": time.time() + 600} | ({"sub": user} if user else {})
        headers["X-Sluice-Identity"] = jwt.encode(claims, SECRET, algorithm="HS256")
    async with httpx.AsyncClient(base_url=client.base_url, headers=headers, trust_env=False, timeout=60) as http:
        yield http


async def ask(http: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    response = await http.post("/v1/query", json={**ASKED, **more})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def say(http: httpx.AsyncClient, answer: str, **said: Any) -> dict[str, Any]:
    response = await http.post("/v1/feedback", json={"answer": answer, **said})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def kept(http: httpx.AsyncClient, count: int = 1) -> list[dict[str, Any]]:
    """The answers that are kept, once there are so many."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = (await http.get("/v1/answers")).json()["answers"]
        return len(found) >= count

    await until(there, f"{count} kept answers")
    return found


async def test_an_answer_is_kept_with_what_was_asked(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    client = gateway.of("keeps")
    async with asked(gateway, broker, client) as (http, answer):
        await http.post("/v1/query", json={**ASKED, "stream": True})
        said = [{"role": "user", "content": "First"}, {"role": "assistant", "content": "Yes"}]
        said.append({"role": "user", "content": "And then?"})
        await http.post("/v1/chat/completions", json={"model": "rag/default", "messages": said})
        found = await kept(http, 3)
    assert [one["question"] for one in found] == ["And then?", ASKED["question"], ASKED["question"]]
    assert found[0]["messages"] == said[:2]
    first = found[-1]
    assert first["id"] == answer["id"]
    assert (first["answer"], first["sources"]) == (answer["answer"], answer["sources"])
    assert first["timings"]["stages"] == answer["timings"]["stages"]
    assert (first["collection"], first["stage"]) == ("default", "")
    assert first["reader"] == first["key"] == client.get("/v1/session").json()["key"]
    assert client.get("/v1/session").json()["feedback"] is True


async def test_what_a_reader_says_adds_up(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    async with asked(gateway, broker, gateway.of("adds-up")) as (http, answer):
        # At once: the answer may still be on its way to the broker.
        first = await say(http, answer["id"], rating="down", tags=["wrong", "wrong"], opened=[2])
        await say(http, f"chatcmpl-{answer['id']}", correction="Ines", opened=[1], copied=True)
        judged = [{"index": 1, "relevant": True}, {"index": 2, "relevant": False}]
        await say(http, answer["id"], sources=judged)
        last = await say(http, answer["id"], rating="", sources=[{"index": 1, "relevant": None}])
        (listed,) = (await http.get("/v1/feedback")).json()["feedback"]
        metrics = (await http.get("/metrics", headers=gateway.admin.headers)).text
    assert (first["rating"], first["tags"], first["opened"]) == ("down", ["wrong"], [2])
    assert last == listed
    assert (last["rating"], last["correction"], last["opened"], last["copied"]) == ("", "Ines", [1, 2], True)
    assert last["sources"] == [{"index": 2, "relevant": False}]
    assert last["created_at"] == first["created_at"] < last["changed_at"]
    assert last["kept"]["question"] == ASKED["question"]
    assert 'sluice_gateway_ratings_total{rating="down",stage="generate",variant="default"} 1.0' in metrics


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"rating": "great"}, "rating"),
        ({"sources": [{"index": 3, "relevant": True}]}, "sources[0]"),
        ({"opened": [1, 9]}, "opened[1]"),
        ({"tags": ["No tag"]}, "tags[0]"),
        ({"stars": 5}, "stars"),
        ({"correction": "x" * 20_001}, "correction"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_feedback_that_makes_no_sense_is_refused_by_its_member(
    gateway: AuthenticatedGateway, broker: NatsServer, said: dict[str, Any], path: str
) -> None:
    async with asked(gateway, broker, gateway.of("no-sense")) as (http, answer):
        refused = await http.post("/v1/feedback", json={"answer": answer["id"], **said})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"].startswith(path)


async def test_nobody_sees_or_judges_the_answers_of_others(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    owner, other = gateway.of("house", "query", "write"), gateway.of("house", "query")
    overseer, stranger = gateway.of("house", "read", "write"), gateway.of("street")
    async with asked(gateway, broker, owner) as (http, answer):
        await kept(http)
        for client in (other, stranger):
            async with asynchronous(client) as theirs:
                assert (await theirs.get("/v1/answers")).json()["answers"] == []
                assert (await theirs.get(f"/v1/answers/{answer['id']}")).status_code == 404
                assert (await theirs.delete(f"/v1/answers/{answer['id']}")).status_code == 404
                refused = await theirs.post("/v1/feedback", json={"answer": answer["id"], "rating": "up"})
                assert refused.status_code == 404
                assert answer["id"] in refused.json()["detail"]
        async with asynchronous(overseer) as theirs:
            await say(theirs, answer["id"], rating="down")
            assert len((await theirs.get("/v1/answers")).json()["answers"]) == 1
        await say(http, answer["id"], rating="up")
        ratings = [one["rating"] for one in (await http.get("/v1/feedback")).json()["feedback"]]
        assert ratings == ["up", "down"]
        only = (await http.get("/v1/feedback", params={"rating": "down"})).json()["feedback"]
        assert [one["rating"] for one in only] == ["down"]
        async with asynchronous(other) as theirs:
            assert (await theirs.get("/v1/feedback")).json()["feedback"] == []


async def test_an_applications_users_are_told_apart_and_it_may_speak_for_them(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    client = gateway.of("users", "query", "write")
    client.post("/v1/collections", json={"name": "default"})
    async with (
        Stages(broker.url).running(),
        asynchronous(client, "alice") as alice,
        asynchronous(client, "bob") as bob,
        asynchronous(client) as application,
    ):
        answer = (await ask(alice))["id"]
        assert (await say(alice, answer, rating="up"))["reader"] == "user:alice"
        assert (await bob.post("/v1/feedback", json={"answer": answer, "rating": "down"})).status_code == 404
        assert (await bob.get("/v1/answers")).json()["answers"] == []
        spoken = await say(application, answer, comment="She said so")
        assert (spoken["reader"], spoken["rating"], spoken["comment"]) == ("user:alice", "up", "She said so")


async def test_no_answer_is_read_by_who_may_see_less_than_it_was_made_from(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    gateway.of("lists", "write").post("/v1/collections", json={"name": "default"})
    client, narrow = gateway.of("lists", "query"), gateway.of("lists", "query", collections=["other"])
    async with (
        Stages(broker.url).running(),
        asynchronous(client, "alice", ("hr",)) as alice,
        asynchronous(client, "alice") as left_hr,
        asynchronous(client, groups=("staff",)) as nobody,
        asynchronous(client) as application,
        asynchronous(narrow, "alice", ("hr",)) as elsewhere,
    ):
        answer = (await ask(alice))["id"]
        said = await say(alice, answer, rating="down")
        assert said["kept"]["sources"]
        for caller in (left_hr, nobody, application, elsewhere):
            assert (await caller.get("/v1/answers")).json()["answers"] == []
            assert (await caller.get(f"/v1/answers/{answer}")).status_code == 404
            assert (await caller.get("/v1/feedback")).json()["feedback"] == []
        for caller in (left_hr, application, elsewhere):
            assert (await caller.get("/v1/readers/me")).text == ""
        for refused in (await nobody.get("/v1/readers/me"), await nobody.delete("/v1/readers/me")):
            assert refused.status_code == 404
            assert "names no user" in refused.json()["detail"]
        # An application without rights of its own still speaks for its user, but is not told what they have read.
        spoken = await say(application, answer, rating="up")
        assert (spoken["reader"], spoken["rating"]) == ("user:alice", "up")
        assert (spoken["kept"]["id"], spoken["kept"]["sources"], spoken["kept"]["question"]) == (answer, [], "")
        (listed,) = (await alice.get("/v1/feedback")).json()["feedback"]
        assert (listed["rating"], listed["kept"]) == ("up", said["kept"])
        assert len((await alice.get("/v1/readers/me")).text.splitlines()) == 2


async def test_all_of_a_reader_is_exported_and_erased(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    client = gateway.of("erases", "query", "write")
    admin = gateway.of("erases", "admin")
    client.post("/v1/collections", json={"name": "default"})
    async with (
        Stages(broker.url).running(),
        asynchronous(client, "alice") as alice,
        asynchronous(client, "bob") as bob,
        asynchronous(admin) as head,
    ):
        ids = [(await ask(alice))["id"] for _ in range(3)]
        await ask(bob)
        await say(alice, ids[0], rating="up")
        await kept(alice, 3)
        exported = await alice.get("/v1/readers/me")
        lines = [json.loads(line) for line in exported.text.splitlines()]
        assert exported.headers["content-type"] == "application/x-ndjson"
        assert {line["answer"]["id"] for line in lines if "answer" in line} == set(ids)
        assert [line["feedback"]["answer"] for line in lines if "feedback" in line] == ids[:1]
        assert (await bob.get("/v1/readers/user:alice")).status_code == 403
        assert (await bob.delete("/v1/readers/user:alice")).status_code == 403

        erased = await head.delete("/v1/readers/user:alice")
        assert erased.json() == {"answers": 3, "feedback": 1, "payloads": 0}
        assert (await head.delete("/v1/readers/user:alice")).json() == {"answers": 0, "feedback": 0, "payloads": 0}
        assert (await alice.get("/v1/readers/me")).text == ""
        assert (await alice.get("/v1/answers")).json()["answers"] == []
        assert len(await kept(bob)) == 1


async def test_an_answer_may_be_judged_again_at_once_when_it_was_removed(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    async with asked(gateway, broker, gateway.of("removes")) as (http, answer):
        await say(http, answer["id"], rating="up")
        assert (await http.delete(f"/v1/answers/{answer['id']}")).status_code == 204
        began = time.monotonic()
        assert (await say(http, answer["id"], rating="down"))["rating"] == "down"
        assert time.monotonic() - began < 2
        unknown = f"{answer['id'][:11]}{0:012}"
        refused = await http.post("/v1/feedback", json={"answer": unknown, "rating": "up"})
    assert (refused.status_code, "try again" in refused.json()["detail"]) == (404, True)


async def test_a_reader_of_any_name_is_exported_and_erased_by_it(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    client, admin = gateway.of("names", "query", "write"), gateway.of("names", "admin")
    client.post("/v1/collections", json={"name": "default"})
    names = ("https://id.example/users/1?a=b&c#d", "auth0|7", "Zoë / 50 %", "..", "a" * 155)
    async with Stages(broker.url).running():
        for name in names:
            async with asynchronous(client, name) as http:
                await ask(http)
                await kept(http)
    with Client(str(admin.base_url), api_key=admin.headers["Authorization"].split()[1]) as head:
        for name in names:
            (exported,) = head.export_reader(f"user:{name}")
            assert isinstance(exported, KeptAnswer)
            assert exported.reader == f"user:{name}"
            assert head.erase_reader(f"user:{name}").answers == 1
            assert head.export_reader(f"user:{name}") == []
    assert admin.delete("/v1/readers/").status_code == 422


async def test_pages_go_back_to_the_first(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    async with asked(gateway, broker, gateway.of("pages")) as (http, answer):
        ids = [answer["id"], *[(await ask(http))["id"] for _ in range(6)]]
        await kept(http, 7)
        found: list[str] = []
        params: dict[str, int] = {"limit": 3}
        while True:
            page = (await http.get("/v1/answers", params=params)).json()
            found += [one["id"] for one in page["answers"]]
            if page["next"] is None:
                break
            params["before"] = page["next"]
        assert (await http.delete(f"/v1/answers/{ids[3]}")).status_code == 204
        left = [one["id"] for one in (await http.get("/v1/answers")).json()["answers"]]
    # Eight writers at once: answers of the same moment may change places.
    assert sorted(found) == sorted(ids)
    assert len(found) == 7
    assert sorted(left) == sorted({*ids} - {ids[3]})


async def test_nothing_is_kept_unless_the_settings_say_so(broker: NatsServer, tmp_path: Path) -> None:
    with authenticated_gateway(broker, tmp_path, keep_answers=True, keep_answers_tenants="other") as gateway:
        client = gateway.of("not-kept")
        async with asked(gateway, broker, client) as (http, answer):
            refused = await http.post("/v1/feedback", json={"answer": answer["id"], "rating": "up"})
            assert refused.status_code == 404
            assert "SLUICE_KEEP_ANSWERS" in refused.json()["detail"]
            assert client.get("/v1/session").json()["feedback"] is False
            assert (await http.get("/v1/answers")).json()["answers"] == []


async def test_what_the_redactor_takes_out_is_never_written(broker: NatsServer, tmp_path: Path) -> None:
    redactor = "services.gateway.answers.redaction.contacts"
    with authenticated_gateway(broker, tmp_path, keep_answers=True, redactor=redactor) as gateway:
        async with asked(gateway, broker, gateway.of("redacted")) as (http, answer):
            said = await say(http, answer["id"], comment="Call +49 170 1234567", correction="ines@harbour.example has")
            (found,) = await kept(http)
    assert found["question"] == "Who has the key? Mail [email]"
    assert (said["comment"], said["correction"]) == ("Call [number]", "[email] has")


async def test_data_sets_of_feedback_are_made_and_seen_by_who_sees_everybodys(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    tenant = "datasets"
    everything, reads = gateway.of(tenant), gateway.of(tenant, "read", "jobs", "query")
    assert everything.post("/v1/collections", json={"name": "docs"}).status_code == 201
    spec = {"kind": "dataset", "collection": "docs", "questions": ["set/q.jsonl"]}
    refused = reads.post("/v1/jobs", json={"spec": spec})
    assert (refused.status_code, "--no-feedback" in refused.json()["detail"]) == (403, True)
    own = reads.post("/v1/jobs", json={"spec": {**spec, "feedback": False}}).json()["job"]["id"]
    made = everything.post("/v1/jobs", json={"spec": spec}).json()["job"]["id"]
    async with open_job_harness(broker.url) as harness:  # the file that the job would have made
        await harness.artifacts.put(tenant, f"{made}/questions.jsonl", b"{}")
    evaluation = {"kind": "evaluate", "collection": "docs", "input": f"{made}/questions.jsonl"}
    for client, status in ((everything, 200), (reads, 404)):
        assert client.get(f"/v1/jobs/{made}").status_code == status
        assert client.get(f"/v1/jobs/{made}/spec").status_code == status
        assert client.get(f"/v1/artifacts/{made}/questions.jsonl").status_code == status
        assert client.get(f"/v1/jobs/{own}").status_code == 200
        listed = {job["id"] for job in client.get("/v1/jobs").json()["jobs"]}
        assert (made in listed, own in listed) == (status == 200, True)
        assert client.post("/v1/jobs", json={"spec": evaluation}).status_code == (202 if status == 200 else 404)
