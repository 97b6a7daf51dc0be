"""Who asks through an application: tokens, and the principals that a request is served as."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from services.gateway.auth.authenticator import Authenticator
from services.gateway.auth.identity import Identities
from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.settings import GatewaySettings
from shared.contracts.jobs import DeleteSpec, JobOptions, PermitSpec
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType

SECRET = "a-secret-of-thirty-two-characters"
AUDIENCE = "sluice"

PROVIDER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(**claims: Any) -> str:
    return jwt.encode({"exp": time.time() + 60, **claims}, SECRET, "HS256")


def signed(key: Any = PROVIDER, kid: str | None = "k1", **claims: Any) -> str:
    claims = {"exp": time.time() + 60, "aud": AUDIENCE, **claims}
    return jwt.encode(claims, key, "RS256", headers={"kid": kid} if kid else {})


def key_set(**keys: rsa.RSAPrivateKey) -> str:
    found = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "alg": "RS256", "use": "sig"}
        for kid, key in keys.items()
    ]
    return json.dumps({"keys": found})


@pytest.fixture
def provided(tmp_path: Path) -> GatewaySettings:
    (tmp_path / "keys.json").write_text(key_set(k1=PROVIDER))
    return GatewaySettings(
        identity_keys_file=tmp_path / "keys.json",
        identity_audience=AUDIENCE,
        identity_issuer="https://login.example",
        identity_claims={"email": "user", "groups": "group", "sluice": ""},
    )


def refused(identities: Identities, given: str) -> str:
    with pytest.raises(Problem) as problem:
        identities.principals(given, "default")
    assert problem.value.kind is ProblemType.UNAUTHENTICATED
    assert SECRET not in problem.value.detail
    return problem.value.detail


def test_an_application_says_who_asks() -> None:
    identities = Identities(GatewaySettings(identity_secret=SECRET))
    given = token(sub="alice", groups=["hr", "HR staff", 7, "", "bad\nname"], email="a@example")
    assert identities.principals(given, "default") == ("group:HR staff", "group:hr", "user:alice")
    assert identities.principals(token(), "default") == ()
    assert identities.principals(token(sub="alice", tenant="default"), "default") == ("user:alice",)


REFUSED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "a name": lambda: "alice",
    "no token": lambda: "a.b.c",
    "without an end": lambda: jwt.encode({"sub": "alice"}, SECRET, "HS256"),
    "ended": lambda: token(sub="alice", exp=time.time() - 60),
    "not yet valid": lambda: token(sub="alice", exp=time.time() + 7200, nbf=time.time() + 3600),
    "another secret": lambda: jwt.encode({"sub": "alice", "exp": time.time() + 3600}, f"{SECRET}x", "HS256"),
    "another algorithm": lambda: jwt.encode({"sub": "alice", "exp": time.time() + 3600}, SECRET * 2, "HS512"),
    "another tenant": lambda: token(sub="alice", tenant="acme"),
    "too many groups": lambda: token(groups=[f"g{number}" for number in range(257)]),
    "a provider's key": lambda: signed(sub="alice"),
}
"""Made by the test that sends it: a token is refused for what is said of it, not because it has ended since."""


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_what_the_secret_does_not_prove_is_refused(given: Callable[[], str]) -> None:
    refused(Identities(GatewaySettings(identity_secret=SECRET)), given())


def test_a_provider_says_who_asks(provided: GatewaySettings) -> None:
    identities = Identities(provided)
    given = signed(iss="https://login.example", email="a@example", groups="hr", sluice=["team:red", "*", "public"])
    assert identities.principals(given, "default") == ("group:hr", "team:red", "user:a@example")
    alone = signed(iss="https://login.example", kid=None, email="a@example")
    assert identities.principals(alone, "default") == ("user:a@example",)


def test_what_the_provider_does_not_prove_is_refused(provided: GatewaySettings) -> None:
    identities = Identities(provided)
    issuer = {"iss": "https://login.example", "email": "a@example"}
    refused(identities, signed(STRANGER, **issuer))
    refused(identities, signed(kid="k2", **issuer))
    refused(identities, signed(**{**issuer, "iss": "https://evil.example"}))
    refused(identities, signed(**issuer, aud="another"))
    refused(identities, token(**issuer, aud=AUDIENCE))


def test_new_keys_of_the_provider_are_read(provided: GatewaySettings) -> None:
    identities = Identities(provided)
    fresh = signed(STRANGER, kid="k2", iss="https://login.example", email="a@example")
    refused(identities, fresh)
    assert provided.identity_keys_file is not None
    provided.identity_keys_file.write_text(key_set(k1=PROVIDER, k2=STRANGER))
    assert identities.principals(fresh, "default") == ("user:a@example",)
    provided.identity_keys_file.write_text("{")
    assert identities.principals(fresh, "default") == ("user:a@example",)


def test_a_gateway_that_verifies_nothing_refuses_an_identity() -> None:
    authenticator = Authenticator(GatewaySettings())
    assert authenticator.principal([]).sees_all
    with pytest.raises(Problem) as problem:
        authenticator.principal([(b"x-sluice-identity", token(sub="alice").encode())])
    assert problem.value.kind is ProblemType.UNAUTHENTICATED


def test_an_identity_narrows_also_who_needs_no_key() -> None:
    authenticator = Authenticator(GatewaySettings(identity_secret=SECRET))
    header = (b"x-sluice-identity", token(sub="alice").encode())
    assert authenticator.principal([header]).reads_as == ("user:alice",)
    with pytest.raises(Problem):
        authenticator.principal([header, header])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"identity_secret": "short"}, "32 or more"),
        ({"identity_secret": SECRET, "identity_secret_file": "/nowhere"}, "not both"),
        ({"identity_keys_file": "/keys.json"}, "identity_audience"),
        ({"identity_secret": SECRET, "identity_claims": {"sub": "A user"}}, "kind"),
    ],
)
def test_settings_that_prove_nothing_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        GatewaySettings(**given)


def as_key(*actions: Action, **more: Any) -> Principal:
    return Principal(tenant="acme", actions=Action.all_of(actions), **more)


@pytest.mark.parametrize(
    ("caller", "principals"),
    [
        (ANONYMOUS, ("*",)),
        (as_key(Action.ADMIN), ("*",)),
        (as_key(Action.WRITE), ("*",)),
        (as_key(Action.QUERY, Action.READ), ()),
        (as_key(Action.JOBS, Action.SYSTEM), ()),
        (as_key(Action.QUERY, principals=("group:hr",)), ("group:hr",)),
        (as_key(Action.QUERY, principals=("*",)), ("*",)),
        (as_key(Action.ADMIN, principals=("group:hr",)), ("group:hr",)),
        (as_key(Action.ADMIN, identity=()), ()),
        (as_key(Action.WRITE, identity=("user:alice",)), ("user:alice",)),
        (as_key(Action.QUERY, identity=("user:alice",)), ("user:alice",)),
        (as_key(Action.QUERY, principals=("*",), identity=("user:alice",)), ("user:alice",)),
        (as_key(Action.QUERY, principals=("group:hr",), identity=("user:alice", "group:hr")), ("group:hr",)),
        (as_key(Action.QUERY, principals=("group:hr",), identity=("group:it",)), ()),
    ],
)
def test_a_caller_looks_at_documents_as(caller: Principal, principals: tuple[str, ...]) -> None:
    assert caller.reads_as == principals
    assert caller.options(JobOptions(principals=("*",))).principals == principals


def test_only_who_sees_every_document_changes_documents_by_their_ids() -> None:
    permit = PermitSpec(collection="docs", documents=("d",), allowed=("public",))
    delete = DeleteSpec(collection="docs", documents=("d",))
    for spec in (permit, delete):
        as_key(Action.WRITE, Action.JOBS).need_spec(spec)
        with pytest.raises(Problem):
            as_key(Action.WRITE, Action.JOBS, principals=("group:hr",)).need_spec(spec)


def test_what_is_noted_names_the_user_and_the_key() -> None:
    app = Principal(tenant="default", name="portal", identity=("group:hr", "user:alice"))
    assert app.by("said") == "user:alice through portal"
    assert app.options(JobOptions(by="said")).by == "user:alice through portal"
    assert Principal(tenant="default", identity=("user:alice",)).by("") == "user:alice"
    assert Principal(tenant="default", name="portal", identity=("group:hr",)).by("said") == "portal"
    assert Principal(tenant="default").by("said") == "said"
