"""What the gateway takes from an OpenID provider, and what it does not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from services.gateway.sessions.openid_provider import OpenIdError, OpenIdProvider
from services.gateway.settings import GatewaySettings
from tests.harness.openid_provider import CLIENT, KEY, SECRET, STRANGER, ProviderServer

pytestmark = pytest.mark.anyio

BACK = "http://127.0.0.1:8080/sign-in/openid/callback"


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer().run() as running:
        yield running


def client_of(server: ProviderServer) -> OpenIdProvider:
    return OpenIdProvider(
        GatewaySettings(
            _env_file=None,
            admin_key="an-admin-key-of-thirty-two-characters",
            openid_issuer=server.url,
            openid_client_id=CLIENT,
            openid_client_secret=SECRET,
            openid_grants=[{}],
        )
    )


async def sign_in(server: ProviderServer) -> Any:
    provider = client_of(server)
    url, transaction = await provider.begin(BACK, "/ask")
    return await provider.claims(server.authorize(url), transaction)


async def test_the_claims_of_a_good_token_are_taken(server: ProviderServer) -> None:
    server.claims = {"groups": ["staff"], "name": "Alice"}
    claims = await sign_in(server)
    assert (claims["sub"], claims["groups"], claims["name"]) == ("alice", ["staff"], "Alice")


async def test_groups_that_only_the_user_information_has_are_taken_from_there(server: ProviderServer) -> None:
    server.user_info = {"groups": ["staff"]}
    assert (await sign_in(server))["groups"] == ["staff"]


async def test_user_information_of_somebody_else_is_left_out(server: ProviderServer) -> None:
    server.user_info = {"sub": "mallory", "groups": ["admins"]}
    assert "groups" not in await sign_in(server)


PUBLIC_KEY = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": {"nonce": "of-another-sign-in"}},
        {"claims": {"nonce": None}},
        {"claims": {"aud": "another-client"}},
        {"claims": {"aud": [CLIENT, "another-client"]}},
        {"claims": {"aud": [CLIENT, "another-client"], "azp": "another-client"}},
        {"claims": {"iss": "https://another.example"}},
        {"claims": {"exp": 1}},
        {"claims": {"exp": None}},
        {"claims": {"sub": None}},
        {"key": STRANGER},
        {"kid": "unknown"},
        {"key": None, "algorithm": "none"},
        {"key": PUBLIC_KEY, "algorithm": "HS256"},
        {"described": {"issuer": "https://another.example"}},
        {"described": {"token_endpoint": None}},
        {"described": {"jwks_uri": "http://127.0.0.1:1/keys"}},
    ],
    ids=lambda changes: "-".join(f"{name}" for name in (changes.get("claims") or changes)),
)
async def test_a_token_that_is_not_for_this_sign_in_is_refused(server: ProviderServer, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(OpenIdError):
        await sign_in(server)


async def test_a_code_is_good_for_the_browser_alone_that_began_the_sign_in(server: ProviderServer) -> None:
    provider = client_of(server)
    url, _ = await provider.begin(BACK, "/")
    _, other = await provider.begin(BACK, "/")
    with pytest.raises(OpenIdError):
        await provider.claims(server.authorize(url), other)


async def test_the_provider_is_asked_for_its_keys_once(server: ProviderServer) -> None:
    provider = client_of(server)
    for code in ("c1", "c2"):
        url, transaction = await provider.begin(BACK, "/")
        await provider.claims(server.authorize(url, code), transaction)
    assert server.looks == 1


async def test_a_provider_that_is_away_is_said_to_be(server: ProviderServer) -> None:
    server.url = "http://127.0.0.1:1"
    with pytest.raises(OpenIdError):
        await client_of(server).begin(BACK, "/")
