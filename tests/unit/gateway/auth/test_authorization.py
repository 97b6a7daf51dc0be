"""Who is let in with which key, and how much of it: the gateway's side of API keys, without a broker."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.auth.authenticator import Authenticator, api_key_of
from services.gateway.auth.dependencies import authenticated_router
from services.gateway.auth.exposure import check_exposure
from services.gateway.auth.limits import Bucket, Limits
from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.settings import GatewaySettings
from shared.contracts.jobs import JobOptions, JobSpec, decode_spec
from shared.contracts.keys import Action, ApiKey, KeyState, Secret, hashed, key_id, new_key, permitted
from shared.contracts.problems import Problem, ProblemType

ADMIN = "a" * 32
NOW = time.time()


def made(**members: Any) -> tuple[ApiKey, str]:
    key, written = new_key()
    usual = {"name": "n", "tenant": "acme", "actions": {"query"}, "created_at": NOW}
    record = {"id": key, "secrets": (Secret(sha256=hashed(written)),), **usual, **members}
    return ApiKey.model_validate(record), written


def ring(*keys: ApiKey, **settings: Any) -> Authenticator:
    authenticator = Authenticator(GatewaySettings(**settings))
    authenticator.update({key.id: key for key in keys})
    return authenticator


def bearing(written: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"h"), (b"authorization", f"Bearer {written}".encode())]


def outcome(call: Callable[[], object]) -> Problem | None:
    """The problem that a call raises."""
    try:
        call()
    except Problem as problem:
        return problem
    return None


def refused(authenticator: Authenticator, written: str | None) -> bool:
    problem = outcome(lambda: authenticator.principal([] if written is None else bearing(written)))
    return problem is not None and problem.kind is ProblemType.UNAUTHENTICATED


def test_a_key_is_known_by_its_secret_alone() -> None:
    key, written = made()
    authenticator = ring(key, admin_key=ADMIN)
    assert authenticator.principal(bearing(written)).key == key.id
    other = written[:-1] + ("0" if written[-1] != "0" else "1")
    for wrong in (None, "", "nonsense", other, key.id, f"sk-sluice-{key.id}-", "é" * 40, "b" * 32):
        assert refused(authenticator, wrong)


def test_a_change_of_one_key_makes_nothing_of_the_others_anew() -> None:
    (key, written), (other, _), (changed, secret) = made(), made(), made()
    authenticator = ring(key, other, changed)
    before = authenticator.principal(bearing(written))
    authenticator.update({key.id: key, changed.id: changed.model_copy(update={"tenant": "new"})})
    assert authenticator.principal(bearing(written)) is before
    assert authenticator.principal(bearing(secret)).tenant == "new"


def test_the_written_key_has_an_id_and_256_bits_and_is_never_in_its_record() -> None:
    key, written = made()
    assert key_id(written) == key.id
    assert len(bytes.fromhex(written.rpartition("-")[2])) == 32
    assert written.rpartition("-")[2] not in key.model_dump_json()


def test_a_key_comes_as_a_bearer_token_or_in_a_header_of_its_own() -> None:
    assert api_key_of([(b"authorization", b"bEaReR  x ")]) == "x"
    assert api_key_of([(b"x-api-key", b"y")]) == "y"
    assert api_key_of([(b"x-api-key", b"y"), (b"authorization", b"Bearer x")]) == "x"
    assert api_key_of([(b"authorization", b"Basic eA=="), (b"cookie", b"x")]) is None


def test_an_expired_and_a_revoked_key_let_nobody_in() -> None:
    expired, written = made(expires_at=NOW - 1)
    assert refused(ring(expired), written)
    revoked, written = made(revoked_at=NOW)
    assert refused(ring(revoked), written)
    assert (expired.state(NOW), revoked.state(NOW)) == (KeyState.EXPIRED, KeyState.REVOKED)


def test_after_a_rotation_the_old_secret_goes_on_for_its_grace_and_no_longer() -> None:
    key, old = made()
    _, new = new_key(key.id)
    rotated = key.rotated(hashed(new), NOW, grace=60)
    assert [rotated.opened_by(hashed(old), at) for at in (NOW, NOW + 59, NOW + 60)] == [True, True, False]
    assert rotated.opened_by(hashed(new), NOW + 1e9)
    again = rotated.rotated(hashed("next"), NOW + 61, grace=3600)
    assert (len(again.secrets), again.opened_by(hashed(old), NOW + 61)) == (2, False)
    shorter = rotated.rotated(hashed("next"), NOW, grace=0)
    assert [secret.sha256 for secret in shorter.secrets] == [hashed("next")]


def test_without_an_admin_key_and_without_keys_everybody_is_the_default_tenant() -> None:
    assert ring().principal([]) is ANONYMOUS
    assert ring().principal(bearing("whatever an SDK sends")) is ANONYMOUS


def test_keys_on_the_broker_are_asked_for_even_where_no_admin_key_is_set() -> None:
    key, written = made()
    authenticator = ring(key)
    assert refused(authenticator, None)
    assert authenticator.principal(bearing(written)).tenant == "acme"
    assert ring(key, allow_anonymous=True).principal([]) is ANONYMOUS


def test_the_admin_key_of_the_settings_may_do_everything(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{ADMIN}\n")
    for settings in ({"admin_key": ADMIN}, {"admin_key_file": tmp_path / "key"}):
        principal = ring(**settings).principal(bearing(ADMIN))
        principal.need(Action.ADMIN)
        assert principal.name == "admin"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"admin_key": "short"}, "32 or more"),
        ({"admin_key": ADMIN, "admin_key_file": "x"}, "not both"),
        ({"admin_key_file": "/nowhere/at/all"}, "cannot be read"),
        ({"admin_key": ADMIN, "allow_anonymous": True}, "choose one"),
        ({"cors_origins": "https://a.example/path"}, "is not an origin"),
        ({"cors_origins": "*"}, "only where keys are asked for"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_the_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        GatewaySettings(**settings)


def test_the_gateway_does_not_start_open_to_other_machines_unless_told_to() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "gateway.example"):
        with pytest.raises(SystemExit, match="SLUICE_ADMIN_KEY"):
            check_exposure(GatewaySettings(http_host=host))
        check_exposure(GatewaySettings(http_host=host, admin_key=ADMIN))
        check_exposure(GatewaySettings(http_host=host, allow_anonymous=True))
    for host in ("127.0.0.1", "::1", "localhost"):
        check_exposure(GatewaySettings(http_host=host))


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("::1", True),
        ("localhost:8080", True),
        ("gateway", True),
        ("host.docker.internal:8080", True),
        ("192.168.1.7", True),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example.", False),
    ],
)
def test_a_site_that_lets_its_name_mean_this_machine_is_not_answered_without_a_key(host: str, near: bool) -> None:
    problem = outcome(lambda: ring().principal([(b"host", host.encode())]))
    assert (problem is None) is near
    assert problem is None or problem.kind is ProblemType.FORBIDDEN
    also = outcome(lambda: ring(allow_anonymous=True).principal([(b"host", host.encode())]))
    assert (also is None) is near
    assert ring(hosts="other.example, *").principal([(b"host", host.encode())]) is ANONYMOUS
    assert ring(admin_key=ADMIN).principal([(b"host", host.encode()), *bearing(ADMIN)]).key == "admin"


def test_a_gateway_answers_under_the_names_that_its_settings_give_it() -> None:
    known = ring(allow_anonymous=True, hosts="Sluice.example.com, other.example.")
    for host in (b"sluice.example.com", b"SLUICE.example.com:443", b"other.example"):
        assert known.principal([(b"host", host)]) is ANONYMOUS
    for host in (b"evil.example", b"sluice.example.com.evil.example", b"a.sluice.example.com"):
        assert outcome(lambda host=host: known.principal([(b"host", host)])) is not None  # type: ignore[misc]
        assert known.principal([(b"host", host)], any_host=True) is ANONYMOUS


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        (None, "127.0.0.1:8080", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://LOCALHOST", "localhost:80", True),
        ("https://localhost:443", "localhost", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://app.example.com", "localhost:8080", True),
        ("http://localhost:3000", "localhost:8080", False),
        ("http://127.0.0.1:8080", "localhost:8080", False),
        ("https://evil.example", "localhost:8080", False),
        ("https://localhost:8080.evil.example", "localhost:8080", False),
        ("null", "localhost:8080", False),
        ("file://localhost", "localhost", False),
    ],
)
def test_a_page_of_another_origin_changes_nothing_without_a_key(origin: str | None, host: str, may: bool) -> None:
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    for settings in ({}, {"allow_anonymous": True}):
        gateway = ring(cors_origins="https://app.example.com", **settings)
        problem = outcome(lambda gateway=gateway: gateway.principal(headers, writes=True))  # type: ignore[misc]
        assert (problem is None) is may
        assert problem is None or problem.kind is ProblemType.FORBIDDEN
        assert gateway.principal(headers) is ANONYMOUS, "what is read is the browser's to guard"


def test_settings_never_show_the_admin_key() -> None:
    settings = GatewaySettings(admin_key=ADMIN)
    assert ADMIN not in f"{settings!r} {settings}"


def test_a_key_may_do_what_its_actions_say_and_what_they_bring() -> None:
    brings = {
        Action.QUERY: {Action.QUERY},
        Action.WRITE: {Action.WRITE, Action.READ},
        Action.JOBS: {Action.JOBS, Action.READ},
        Action.METRICS: {Action.METRICS},
        Action.ADMIN: set(Action),
    }
    assert {action: set(Action.all_of([action])) for action in brings} == brings


@pytest.mark.parametrize(
    ("members", "sees"),
    [
        ({}, True),
        ({"actions": frozenset({Action.READ, Action.WRITE})}, True),
        ({"actions": frozenset({Action.READ}), "principals": ("*",)}, True),
        ({"actions": frozenset({Action.QUERY}), "principals": ("*",)}, False),
        ({"actions": frozenset({Action.READ, Action.WRITE}), "collections": ("docs",)}, False),
        ({"actions": frozenset({Action.READ})}, False),
        ({"identity": ("user:alice",)}, False),
    ],
)
def test_who_sees_everything_of_a_tenant(members: dict[str, Any], sees: bool) -> None:
    assert Principal(tenant="acme", **members).sees_everything is sees


def test_an_endpoint_that_does_not_say_what_it_needs_cannot_be_made() -> None:
    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match="@requires"):
        authenticated_router("tag").get("/v1/forgotten")(endpoint)


@pytest.mark.parametrize(
    ("patterns", "name", "fits"),
    [
        (("*",), "docs", True),
        (("docs",), "docs", True),
        (("docs",), "docs-2", False),
        (("docs-*", "wiki"), "docs-2", True),
        (("doc?",), "docs", True),
        ((), "docs", False),
    ],
)
def test_patterns_name_collections(patterns: tuple[str, ...], name: str, fits: bool) -> None:
    assert permitted(patterns, name) is fits


INGEST = {"kind": "ingest", "collection": "docs", "source": {"type": "folder", "path": "/data"}}
EVALUATE = {"kind": "evaluate", "input": "f/q.jsonl", "collection": "docs"}
DATASET = {"kind": "dataset", "collection": "docs"}
OF_QUESTIONS = {**DATASET, "questions": ["f/q.jsonl"], "feedback": False}


def pipeline(job: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "pipeline", "name": "p", "steps": {"one": {"job": job}}}


@pytest.mark.parametrize(
    ("spec", "actions", "collections", "may"),
    [
        ({"kind": "reindex", "collection": "docs"}, {"jobs", "write"}, ("docs",), True),
        ({"kind": "reindex", "collection": "docs"}, {"jobs"}, ("*",), False),
        ({"kind": "reindex", "collection": "docs"}, {"jobs", "write"}, ("wiki",), False),
        (INGEST, {"jobs", "write", "system"}, ("docs",), True),
        (INGEST, {"jobs", "write"}, ("docs",), False),
        (EVALUATE, {"jobs", "query"}, ("docs",), True),
        (EVALUATE, {"jobs"}, ("docs",), False),
        (DATASET, {"jobs", "query", "write"}, ("*",), True),
        (DATASET, {"jobs", "write"}, ("*",), False),
        (DATASET, {"jobs", "query", "write"}, ("docs",), False),
        (DATASET, {"jobs", "query"}, ("*",), False),
        (OF_QUESTIONS, {"jobs", "query"}, ("docs",), True),
        (pipeline(DATASET), {"jobs", "query"}, ("*",), False),
        (pipeline(OF_QUESTIONS), {"jobs", "query"}, ("docs",), True),
        ({"kind": "batch", "input": "file-1"}, {"jobs", "query"}, ("docs",), True),
        ({"kind": "command", "args": ["true"]}, {"jobs", "write", "query"}, ("*",), False),
        ({"kind": "command", "args": ["true"]}, {"jobs", "system"}, ("docs",), True),
        (pipeline({"kind": "command", "args": ["true"]}), {"jobs", "write", "query"}, ("*",), False),
        (pipeline(INGEST), {"jobs", "write"}, ("*",), False),
        (pipeline(EVALUATE), {"jobs", "query"}, ("wiki",), False),
        (pipeline({"kind": "evaluate", "input": "f/q"}), {"jobs", "query"}, ("docs",), False),
        (pipeline({**EVALUATE, "collection": "${{ parameters.c }}"}), {"jobs", "query"}, ("docs",), True),
    ],
)
def test_a_job_is_taken_from_whoever_may_do_the_same_himself(
    spec: dict[str, Any], actions: set[str], collections: tuple[str, ...], may: bool
) -> None:
    principal = Principal(tenant="acme", actions=Action.all_of(map(Action, actions)), collections=collections)
    decoded: JobSpec = decode_spec(spec)
    problem = outcome(lambda: principal.need_spec(decoded))
    assert (problem is None) is may
    assert problem is None or problem.kind is ProblemType.FORBIDDEN


def test_a_job_carries_whose_key_it_was_and_what_it_may_name() -> None:
    principal = Principal(tenant="acme", key="k", name="website", collections=("docs",))
    options = principal.options(JobOptions(by="somebody else", collections=("*",)))
    assert (options.by, options.collections) == ("website", ("docs",))
    assert ANONYMOUS.options(JobOptions(by="Maria")).by == "Maria"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minutes_worth_and_fills_up_evenly() -> None:
    clock = Clock()
    bucket = Bucket(60, clock)
    bucket.spend(60)
    assert bucket.wait(1) == pytest.approx(1)
    clock.now = 0.5
    assert bucket.wait(1) == pytest.approx(0.5)
    clock.now = 1000
    assert (bucket.level, bucket.state("requests")) == (60, '"requests";r=60;t=0')


def test_one_request_too_many_is_told_when_to_come_back() -> None:
    clock = Clock()
    limits = Limits(2, None, clock)
    limits.admit()
    limits.admit()
    with pytest.raises(Problem) as caught:
        limits.admit()
    assert (caught.value.kind, caught.value.headers) == (ProblemType.RATE_LIMITED, {"Retry-After": "30"})
    clock.now = 30
    limits.admit()
    headers = dict(limits.headers())
    assert headers == {b"ratelimit-policy": b'"requests";q=2;w=60', b"ratelimit": b'"requests";r=0;t=60'}


def test_an_answer_may_cost_more_tokens_than_there_are_and_then_there_is_a_pause() -> None:
    clock = Clock()
    limits = Limits(None, 60, clock)
    limits.admit()
    limits.spend(100)
    with pytest.raises(Problem) as caught:
        limits.admit()
    assert caught.value.headers == {"Retry-After": "41"}
    assert dict(limits.headers())[b"ratelimit"] == b'"tokens";r=0;t=100'
    clock.now = 41
    limits.admit()


def test_what_is_counted_outlives_a_change_of_other_keys_and_a_rotation() -> None:
    key, written = made(requests_per_minute=5)
    authenticator = ring(key)
    limits = authenticator.principal(bearing(written)).limits
    rotated = key.rotated(hashed("next"), time.time(), grace=60)
    authenticator.update({key.id: rotated})
    assert authenticator.principal(bearing(written)).limits is limits
    authenticator.update({key.id: rotated.model_copy(update={"requests_per_minute": 6})})
    assert authenticator.principal(bearing(written)).limits is not limits
