"""What operators write: settings, pipelines and job files, routes, keys. A mistake is told; nothing else happens."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.embedder.settings import EmbedderSettings
from services.gateway.auth.authenticator import Authenticator
from services.gateway.queries.pipelines import PipelinesError, load_pipelines
from services.gateway.settings import GatewaySettings
from services.gateway.variants.selector import Router
from services.generator.settings import GeneratorSettings
from services.retriever.settings import RetrieverSettings
from services.scheduler.settings import SchedulerSettings
from shared.contracts.envelope import Stop
from shared.contracts.keys import ApiKey, Secret, hashed, new_key, permitted
from shared.contracts.problems import Problem
from shared.contracts.routes import Route
from shared.service.settings import describe
from sluice.cli.yaml_files import YamlFileError, read_scalar, read_yaml
from tests.fuzz.hypothesis_runner import example_began, fuzzed, outcome, saw
from tests.fuzz.values import bent, bent_bytes, damaged, odd_texts

# Settings

SECRET = "swordfish-0123456789abcdef-0123456789"
SERVICES = (EmbedderSettings, GatewaySettings, GeneratorSettings, RetrieverSettings, SchedulerSettings)
variables = st.sampled_from(SERVICES).flatmap(
    lambda settings: st.tuples(
        st.just(settings),
        st.dictionaries(
            st.sampled_from(sorted(settings.model_fields)),
            (
                odd_texts
                | st.sampled_from(
                    ["0", "1", "-1", "nan", "inf", "1e9", "true", "[]", "{}", "http://[", "a=b", "*", "/", "/dev/null"]
                )
                | st.sampled_from([SECRET, f"{SECRET} \u00e9", SECRET[:20]])
            ).filter(lambda text: "\0" not in text and _encodes(text)),
            max_size=5,
        ),
    )
)


def _encodes(text: str) -> bool:
    return not isinstance(outcome(lambda: os.fsencode(text), UnicodeEncodeError), UnicodeEncodeError)


SECRETS = ("admin_key", "nats_password", "otlp_headers", "openai_api_key")


@fuzzed(100)
@given(chosen=variables)
@example(chosen=(GatewaySettings, {"admin_key": SECRET, "allow_anonymous": "true"}))
@example(chosen=(GatewaySettings, {"admin_key": SECRET + " \u00e9"}))
@example(chosen=(GatewaySettings, {"nats_password": SECRET, "nats_password_file": "/dev/null"}))
@example(chosen=(SchedulerSettings, {"otlp_headers": SECRET}))
def test_an_environment_gives_settings_or_says_which_are_wrong_and_never_a_secret(
    chosen: tuple[type[Any], dict[str, str]],
) -> None:
    example_began()
    settings, given_values = chosen
    values = {f"SLUICE_{name.upper()}": value for name, value in given_values.items()}
    with mock.patch.dict(os.environ, values, clear=False):
        made = outcome(settings, ValidationError, SettingsError)
        shown = str(made) if isinstance(made, Exception) else describe(made)
    saw("refused" if isinstance(made, Exception) else "taken")
    hidden = [value for name, value in given_values.items() if name in SECRETS and len(value) > 12]
    open_ones = [value for name, value in given_values.items() if name not in SECRETS]
    assert not [secret for secret in hidden if secret in shown and not any(secret in other for other in open_ones)]


@fuzzed(24)
@given(content=damaged(f"{SECRET}\n".encode()) | st.binary(max_size=64))
def test_any_file_holds_an_admin_key_or_is_refused_without_being_shown(folder: Path, content: bytes) -> None:
    example_began()
    file = folder / "admin-key"
    file.write_bytes(content)
    with mock.patch.dict(os.environ, {"SLUICE_ADMIN_KEY_FILE": str(file)}):
        made = outcome(GatewaySettings, ValidationError)
    if isinstance(made, ValidationError):
        saw("refused")
        assert SECRET not in str(made)
        return
    saw("taken")
    assert Authenticator(made).required
    written = made.admin_secret
    assert Authenticator(made).principal([(b"x-api-key", written.encode())]).name == "admin"


# Files of YAML

PIPELINES = """\
pipelines:
  brief: [embed, retrieve, generate]
  canary:
    - embed
    - {stage: retrieve, params: {mode: vector, top_k: 3}}
    - &last {stage: generate, variant: canary}
  other: [embed, *last]
"""
JOB = """\
# Every night
kind: pipeline
name: nightly
parameters: {folder: /srv/docs, minimum: 0.9, since: 2026-01-31, on: yes}
steps:
  ingest:
    job: {kind: ingest, collection: c, source: {type: folder, path: "${{ parameters.folder }}"}}
  switch:
    when: >
      ingest.indexed > 0
    job: {kind: switch, collection: c}
"""
YAML_TOKENS = (
    *(
        b"2026-13-45",
        b"2026-01-01 25:61:61",
        b"!!int x",
        b"!!int ''",
        b"!!float ''",
        b"!!timestamp x",
        b"!!binary x",
        b"!!set",
    ),
    *(
        b"!!python/object:os.system",
        b"0x",
        b"0b",
        b"0o8",
        b"1:99:99",
        b".inf",
        b".nan",
        b"~",
        b"? ",
        b"- ",
        b"&a ",
        b"*a",
    ),
    *(
        b"*b",
        b"<<: *last\n",
        b"<<: [1]\n",
        b"[",
        b"{",
        b"}",
        b"]",
        b"|",
        b">",
        b"%YAML 9\n",
        b"---\n",
        b"...\n",
        b"\t",
        b"@",
    ),
    *(
        b"{a: 1, a: 2}",
        b"? [a]\n: b\n",
        b"1: 2\n",
        b"null: 1\n",
        b"\xc2\x85",
        b"\xff",
        b"\0",
        b"9" * 5000,
        b"1e400",
        b"[" * 2000,
    ),
)
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


def yaml_like(text: str) -> Any:
    value = yaml.safe_load(text)
    return (
        damaged(text.encode(), tokens=YAML_TOKENS)
        | bent([json.loads(json.dumps(value, default=str))]).map(lambda data: json.dumps(data).encode())
        | bent([json.loads(json.dumps(value, default=str))]).map(lambda data: yaml.safe_dump(data).encode())
    )


def check_file(folder: Path, content: bytes, read: Callable[[Path], Any], refusal: type[Exception]) -> Any:
    file = folder / "file.yaml"
    file.write_bytes(content)
    found = outcome(lambda: read(file), refusal)
    if isinstance(found, refusal):
        saw("refused")
        assert str(file) in str(found)
        return None
    saw("taken")
    return found


@fuzzed(60)
@given(content=yaml_like(PIPELINES))
@example(content=b"pipelines: {a: [{stage: embed, params: {x: 2026-13-45}}]}")
@example(content=b"[" * 5000)
@example(content=BOMB.encode())
@example(content=b"pipelines: {a: [{stage: embed, params: &a {x: *a}}]}")
def test_any_file_holds_pipelines_or_a_mistake_that_is_told(folder: Path, content: bytes) -> None:
    example_began()
    pipelines = check_file(folder, content, load_pipelines, PipelinesError)
    if pipelines is not None:
        for name in pipelines.named:
            json.dumps([stop.model_dump(mode="json") for stop in pipelines.get(name)])


@fuzzed(60)
@given(content=yaml_like(JOB))
@example(content=b"a: !!int x")
@example(content=b"a: !!timestamp x")
@example(content=b"[" * 5000)
@example(content=BOMB.encode())
@example(content=b"&a [*a]")
def test_any_file_holds_a_job_or_a_mistake_that_is_told(folder: Path, content: bytes) -> None:
    example_began()
    found = check_file(folder, content, read_yaml, YamlFileError)
    if found is not None:
        assert len(json.dumps(found.value)) < 1_000_000
        found.at("steps.switch.when")


@fuzzed(60)
@given(text=odd_texts | st.sampled_from(YAML_TOKENS).map(lambda token: token.decode("latin-1")))
@example(text="2026-13-45")
@example(text="!!int x")
def test_any_text_is_a_parameter(text: str) -> None:
    example_began()
    saw(type(read_scalar(text)).__name__)


# Records on the broker

ROUTE = {"stage": "generate", "weights": {"default": 90.0, "canary": 10.0}, "shadows": {"next": 5.0}}
SLIP = (Stop(stage="embed"), Stop(stage="generate"))


@fuzzed(80)
@given(data=bent_bytes([ROUTE], names=("stage", "weights", "shadows")), key=odd_texts)
@example(data=b'{"stage": "generate", "weights": {"default": 5e-324, "canary": 1e9}}', key="k")
def test_any_record_is_a_route_that_chooses_one_of_its_variants_or_a_validation_error(data: bytes, key: str) -> None:
    example_began()
    route = outcome(lambda: Route.model_validate_json(data), ValidationError)
    if isinstance(route, ValidationError):
        saw("refused")
        return
    saw("taken")
    assert math.isclose(sum(route.shares.values()), 1.0)
    key = key.encode("utf-8", "replace").decode()
    chosen = Router({route.stage: route}).route(SLIP, key)
    assert Router({route.stage: route}).route(SLIP, key) == chosen
    if route.stage == "generate":
        assert chosen[1].variant in route.shares


ID, WRITTEN = new_key("abcdefghijkl")
KEY = ApiKey(
    id=ID, name="k", tenant="acme", actions=frozenset(), created_at=1.0, secrets=(Secret(sha256=hashed(WRITTEN)),)
).model_dump(mode="json") | {"actions": ["query", "read"], "collections": ["docs-*"], "requests_per_minute": 10}
presented = st.sampled_from([b"authorization", b"x-api-key", b"host"]).flatmap(
    lambda name: st.tuples(
        st.just(name),
        (
            st.sampled_from([b"", b"Bearer ", b"bearer\t", b"Basic "]).flatmap(
                lambda scheme: damaged(scheme + WRITTEN.encode())
            )
        )
        | st.binary(max_size=40),
    )
)
NOBODY = GatewaySettings(admin_key=SECRET)


@fuzzed(80)
@given(record=bent_bytes([KEY], names=tuple(KEY)), headers=st.lists(presented, max_size=3))
@example(record=json.dumps(KEY).encode(), headers=[(b"authorization", b"bearer " + WRITTEN.encode())])
@example(
    record=json.dumps(KEY | {"secrets": [{"sha256": "\u00e9"}]}).encode(), headers=[(b"x-api-key", WRITTEN.encode())]
)
def test_any_record_and_any_headers_let_in_who_has_the_key_and_nobody_else(
    record: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    example_began()
    key = outcome(lambda: ApiKey.model_validate_json(record), ValidationError)
    authenticator = Authenticator(NOBODY)
    if isinstance(key, ApiKey):
        authenticator.update({key.id: key})
    caller = outcome(lambda: authenticator.principal(headers), Problem)
    if isinstance(caller, Problem):
        saw(caller.kind.code)
        return
    saw("let in")
    brought = [value.decode("latin-1").removeprefix("Bearer").removeprefix("bearer").strip() for _, value in headers]
    assert any(hashed(text) in {secret.sha256 for secret in key.secrets} for text in brought)
    assert caller.tenant == key.tenant
    permitted(caller.collections, "docs-1")
