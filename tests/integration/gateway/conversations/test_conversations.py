"""Conversations on the server: each owner's own, bounded, and nobody else's."""

from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer

SECRET = "a-secret-of-the-application-0123456789"


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    settings = {"conversations": "server", "identity_secret": SECRET}
    with authenticated_gateway(broker, tmp_path_factory.mktemp("gateway"), **settings) as running:
        yield running


@pytest.fixture
def owner(gateway: AuthenticatedGateway) -> httpx.Client:
    return gateway.of("acme", "query")


def content(title: str = "Lamps", **more: Any) -> dict[str, Any]:
    exchange = {"id": "1", "question": "Who built the lamp?", "answer": "Ottilie Brandt.", "sources": []}
    return {"title": title, "collection": "harbour", "pipeline": "", "exchanges": [exchange], **more}


def ids(client: httpx.Client) -> list[str]:
    found = client.get("/v1/conversations")
    assert found.status_code == 200, found.text
    return [one["id"] for one in found.json()["conversations"]]


def keep(client: httpx.Client, conversation: str, **more: Any) -> None:
    kept = client.put(f"/v1/conversations/{conversation}", json=content(**more))
    assert kept.status_code == 200, kept.text


def test_a_conversation_is_read_as_it_was_written(owner: httpx.Client) -> None:
    keep(owner, "conversation1")
    assert owner.get("/v1/conversations/conversation1").json() == content()
    (listed,) = owner.get("/v1/conversations").json()["conversations"]
    assert (listed["title"], listed["collection"]) == ("Lamps", "harbour")


def test_the_last_changed_comes_first(owner: httpx.Client) -> None:
    for conversation in ("conversation1", "conversation2", "conversation1"):
        keep(owner, conversation)
    assert ids(owner) == ["conversation1", "conversation2"]


def test_a_deleted_conversation_is_gone_and_deleting_it_again_is_no_error(owner: httpx.Client) -> None:
    keep(owner, "conversation1")
    keep(owner, "conversation2")
    for _ in range(2):
        assert owner.delete("/v1/conversations/conversation1").status_code == 204
    assert owner.get("/v1/conversations/conversation1").status_code == 404
    assert ids(owner) == ["conversation2"]
    assert owner.delete("/v1/conversations").status_code == 204
    assert ids(owner) == []
    assert owner.get("/v1/conversations/conversation2").status_code == 404


def test_nobody_sees_the_conversations_of_another_key_of_the_same_tenant(
    gateway: AuthenticatedGateway, owner: httpx.Client
) -> None:
    keep(owner, "conversation1")
    for actions in (("query",), ("query", "admin")):
        other = gateway.of("acme", *actions)
        assert ids(other) == []
        assert other.get("/v1/conversations/conversation1").status_code == 404
        keep(other, "conversation1", title="Theirs")
        assert other.delete("/v1/conversations").status_code == 204
    assert owner.get("/v1/conversations/conversation1").json()["title"] == "Lamps"


def test_people_who_ask_through_one_key_have_conversations_of_their_own(
    gateway: AuthenticatedGateway, owner: httpx.Client
) -> None:
    def of(person: str) -> dict[str, str]:
        return {"X-Sluice-Identity": jwt.encode({"sub": person, "exp": 2**33}, SECRET, "HS256")}

    assert owner.put("/v1/conversations/conversation1", json=content(), headers=of("alice")).status_code == 200
    assert owner.get("/v1/conversations/conversation1", headers=of("alice")).status_code == 200
    assert owner.get("/v1/conversations/conversation1", headers=of("bob")).status_code == 404
    assert owner.get("/v1/conversations/conversation1").status_code == 404


def test_the_oldest_makes_room_beyond_two_hundred(owner: httpx.Client) -> None:
    for number in range(202):
        keep(owner, f"conversation{number:03}")
    found = ids(owner)
    assert (len(found), found[0], found[-1]) == (200, "conversation201", "conversation002")
    assert owner.get("/v1/conversations/conversation001").status_code == 404


@pytest.mark.parametrize(
    ("conversation", "body", "status"),
    [
        ("short", content(), 422),
        ("list", content(), 422),
        ("conversation.1", content(), 422),
        ("conversation1", {"title": 1}, 422),
        ("conversation1", content(title="x" * 201), 422),
        ("conversation1", content(unknown=1), 422),
        ("conversation1", content(exchanges=[{"answer": "x" * 600_000}]), 413),
    ],
)
def test_what_is_no_conversation_is_refused(owner: httpx.Client, conversation: str, body: Any, status: int) -> None:
    assert owner.put(f"/v1/conversations/{conversation}", json=body).status_code == status
    assert ids(owner) == []


def test_a_gateway_that_keeps_none_says_how_it_would(broker: NatsServer, tmp_path: Any) -> None:
    with authenticated_gateway(broker, tmp_path) as gateway:
        refused = gateway.admin.get("/v1/conversations")
        assert refused.status_code == 404
        assert "SLUICE_CONVERSATIONS=server" in refused.json()["detail"]
        assert gateway.admin.get("/v1/session").json()["conversations"] == "browser"


def test_the_session_says_that_conversations_are_kept_on_the_server(gateway: AuthenticatedGateway) -> None:
    assert gateway.admin.get("/v1/session").json()["conversations"] == "server"


def test_a_writer_replaces_only_what_it_has_read(owner: httpx.Client) -> None:
    path = "/v1/conversations/conversation1"
    new = owner.put(path, json=content("First"), headers={"If-Match": '"0"'})
    assert new.status_code == 200
    assert owner.get(path).headers["ETag"] == new.headers["ETag"]
    assert owner.put(path, json=content("Second"), headers={"If-Match": '"0"'}).status_code == 412
    changed = owner.put(path, json=content("Second"), headers={"If-Match": new.headers["ETag"]})
    assert changed.status_code == 200
    stale = owner.put(path, json=content("Third"), headers={"If-Match": new.headers["ETag"]})
    assert stale.status_code == 412
    assert "conversation1" in stale.json()["detail"]
    assert owner.get(path).json()["title"] == "Second"
    assert owner.delete(path).status_code == 204
    assert owner.put(path, json=content(), headers={"If-Match": changed.headers["ETag"]}).status_code == 412
    assert owner.put(path, json=content(), headers={"If-Match": "*"}).status_code == 412
    assert owner.put(path, json=content("Again"), headers={"If-Match": '"0"'}).status_code == 200
