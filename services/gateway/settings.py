"""Settings of the gateway."""

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ImportString, SecretStr, field_validator, model_validator

from services.gateway.releases.archives.signatures import parse_keys
from services.gateway.usage.prices import Price
from shared.contracts.envelope import Tenant
from shared.contracts.keys import EVERY_COLLECTION, Action, CollectionPattern
from shared.service.settings import ServiceSettings

__all__ = ["Audit", "ConversationPlace", "GatewaySettings", "OpenIdGrant", "PayloadLogging"]

SHORTEST_SECRET: Final = 32
KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+/?")
PROTECTED: Final = re.compile(r"https://.+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/.*)?")
"""Addresses on which nobody listens on the way."""


class Audit(StrEnum):
    """Which requests are logged with the name of their key."""

    OFF = "off"
    CHANGES = "changes"
    ALL = "all"


class OpenIdGrant(BaseModel):
    """What people may do who sign in by OpenID and are in a group; without a group, all who sign in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = ""
    tenant: Tenant = "default"
    actions: frozenset[Action] = Field(frozenset({Action.QUERY, Action.READ}), min_length=1)
    collections: tuple[CollectionPattern, ...] = Field(EVERY_COLLECTION, min_length=1)


class ConversationPlace(StrEnum):
    """Where the console keeps conversations."""

    BROWSER = "browser"
    SERVER = "server"


class PayloadLogging(StrEnum):
    """What of inferences is logged."""

    NONE = "none"
    REQUESTS = "requests"
    RESPONSES = "responses"
    ALL = "all"


class GatewaySettings(ServiceSettings):
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 takes any free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Port for inferences by gRPC; 0 takes any free one, none: none."
    )
    grpc_calls: int = Field(1024, ge=1, description="Calls by gRPC in work at once; more are refused.")
    pipelines: Path | None = Field(None, description="YAML file of named pipelines; none: only the built-in default.")
    default_timeout: float = Field(30.0, ge=0.1, description="Seconds that a query may take unless it says otherwise.")
    openai_timeout: float = Field(
        120.0, ge=0.1, description="The same for requests in OpenAI's form; at most longest_deadline counts."
    )
    broker_patience: float = Field(
        30.0,
        ge=0,
        description="Seconds without the broker for which the gateway stays ready and holds queries within their "
        "deadlines.",
    )
    max_question_chars: int = Field(8000, ge=1, description="Characters in a question.")
    max_body_bytes: int = Field(256 * 2**20, ge=1, description="Bytes in the body of one upload.")
    max_model_mb: int = Field(2048, ge=1, description="MiB of one model that is uploaded.")
    release_keys: Path | None = Field(
        None, description="File of PEM public keys; one of them must have signed a release that is imported. None: any."
    )
    max_file_bytes: int = Field(50 * 2**20, ge=1, description="Bytes in one uploaded file.")
    max_files: int = Field(1000, ge=1, description="Documents in one upload.")
    max_texts_bytes: int = Field(32 * 2**20, ge=1, description="Bytes in one upload of documents as JSON texts.")
    max_tensor_bytes: int = Field(
        32 * 2**20, ge=1, description="Bytes of the tensors of one request to a model of the repository."
    )
    max_batch_file_bytes: int = Field(200 * 2**20, ge=1, description="Bytes in one file for the Files API.")
    batch_concurrency: int = Field(32, ge=1, le=256, description="Lines of one batch in work at once.")
    batch_yields: bool = Field(
        False,
        description="Lines of batches, and shadows, wait while queries are in flight: for when all stages share a few "
        "CPUs.",
    )
    request_room: int = Field(64, ge=1, description="Lines of batches in work at once.")
    query_window: int = Field(
        128,
        ge=1,
        description="Queries of each lane that one gateway has in flight at once; more wait there, in fair order over "
        "their tenants.",
    )
    query_spare: int = Field(
        32, ge=0, description="Further queries in flight, each of a tenant that has none in flight."
    )
    max_shadows: int = Field(32, ge=0, description="Shadow queries in flight at once; more are left out.")

    admin_key: SecretStr | None = Field(
        None, description="A key that may do everything, to make other keys with. With one, every request needs a key."
    )
    admin_key_file: Path | None = Field(None, description="File that holds the admin key instead.")
    allow_anonymous: bool = Field(
        False, description="Let everybody who can reach the gateway do everything, also from other machines."
    )
    hosts: str = Field(
        "",
        description="Names besides those of this machine under which a gateway that asks for no keys answers, "
        "separated by commas; * for any.",
    )
    identity_secret: SecretStr | None = Field(
        None, description="Secret with which an application signs who asks through it, in X-Sluice-Identity (HS256)."
    )
    identity_secret_file: Path | None = Field(None, description="File that holds that secret instead.")
    identity_keys_file: Path | None = Field(
        None, description="JSON Web Key Set with the public keys of an OpenID provider, whose tokens say who asks."
    )
    identity_issuer: str = Field("", description="Issuer that a token has to be from; empty: any.")
    identity_audience: str = Field("", description="Audience that a token has to be for; empty: any.")
    identity_claims: dict[str, str] = Field(
        {"sub": "user", "groups": "group"},
        description="Claims of a token and the kinds of principals that they are, as JSON; a claim whose kind is empty "
        "holds whole principals.",
    )
    audit: Audit = Field(
        Audit.CHANGES, description="What is logged with the name of its key: changes and refusals, all, or off."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may call the API from a browser, separated by commas; * for any."
    )
    console: bool = Field(True, description="Serve the web console at /.")
    conversations: ConversationPlace = Field(
        ConversationPlace.BROWSER,
        description="Where the console keeps conversations: in the browser alone, or on the server, apart for each key "
        "and person.",
    )
    keep_answers: bool = Field(
        False, description="Keep answers with their questions and sources, so that readers may give feedback on them."
    )
    keep_answers_tenants: str = Field(
        "", description="Tenants whose answers are kept, separated by commas; empty: all."
    )
    redactor: ImportString[Callable[[str], str]] | None = Field(
        None,
        description="Function that takes out of each text what must not be kept, such as "
        "services.gateway.answers.redaction.contacts; none: texts are kept as they are.",
    )
    payloads: PayloadLogging = Field(
        PayloadLogging.NONE,
        description="What of inferences by the Open Inference Protocol is logged: none, requests, responses, or all.",
    )
    payload_tenants: str = Field(
        "", description="Tenants whose inferences are logged, separated by commas; empty: all."
    )
    payload_models: str = Field("", description="Models whose inferences are logged, separated by commas; empty: all.")
    payload_sample: float = Field(1.0, ge=0, le=1, description="Share of the inferences that are logged.")
    payload_metadata_only: bool = Field(
        False, description="Log names, types and shapes of tensors alone, and no elements and parameters."
    )
    max_payload_bytes: int = Field(
        64 * 1024, ge=0, le=128 * 1024, description="Bytes of the tensors of one payload that are logged."
    )
    public_url: str = Field(
        "",
        description="Address under which browsers reach the gateway, such as https://sluice.example.com; empty: the "
        "one that the request names.",
    )
    openid_issuer: str = Field(
        "", description="OpenID provider with which people sign in to the console: its issuer URL; empty: none."
    )
    openid_client_id: str = Field("", description="Name under which the provider knows the gateway.")
    openid_client_secret: SecretStr | None = Field(
        None, description="Secret that the gateway shows the provider; none: a public client, with PKCE alone."
    )
    openid_client_secret_file: Path | None = Field(None, description="File that holds that secret instead.")
    openid_scopes: str = Field(
        "openid profile email", description="What the provider is asked for; some need `groups` for a person's groups."
    )
    openid_groups_claim: str = Field("groups", description="Claim that holds a person's groups.")
    openid_grants: tuple[OpenIdGrant, ...] = Field(
        (),
        description="What people may do, by group, as JSON; the first entry that fits a person counts. Who fits none "
        "may not sign in.",
    )
    openid_name: str = Field("OpenID", description="The provider's name on the sign-in page.")
    prices: dict[str, Price] = Field(
        {},
        description='What a million tokens of a model cost, as JSON: {"my-model": {"prompt": 0.5, "completion": 1.5}}; '
        "a model without a price has no cost.",
    )
    currency: str = Field("USD", min_length=1, max_length=10, description="Currency of the prices.")
    body_idle_seconds: float = Field(30.0, gt=0, description="Seconds of silence after which an upload is given up.")
    body_seconds: float = Field(900.0, gt=0, description="Seconds that any upload may take.")
    metrics_host: str = Field("127.0.0.1", description="Address of the port for metrics.")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="A port of its own for /metrics, where no key is asked for; none: none."
    )

    @property
    def admin_secret(self) -> str | None:
        """The admin key. Raises OSError when its file cannot be read."""
        if self.admin_key_file is not None:
            return self.admin_key_file.read_text().strip()
        return self.admin_key.get_secret_value() if self.admin_key is not None else None

    @property
    def identity_key(self) -> str | None:
        """The secret that applications sign with. Raises OSError when its file cannot be read."""
        if self.identity_secret_file is not None:
            return self.identity_secret_file.read_text().strip()
        return self.identity_secret.get_secret_value() if self.identity_secret is not None else None

    @property
    def openid_secret(self) -> str | None:
        """The secret that the provider knows. Raises OSError when its file cannot be read."""
        if self.openid_client_secret_file is not None:
            return self.openid_client_secret_file.read_text().strip()
        return self.openid_client_secret.get_secret_value() if self.openid_client_secret is not None else None

    @property
    def verifies_identities(self) -> bool:
        """Whether requests may say who asks."""
        return self.identity_key is not None or self.identity_keys_file is not None

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`."""
        return tuple(origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def kept_tenants(self) -> frozenset[str]:
        """The tenants of `keep_answers_tenants`."""
        return _names(self.keep_answers_tenants)

    @property
    def logged_tenants(self) -> frozenset[str]:
        """The tenants of `payload_tenants`."""
        return _names(self.payload_tenants)

    @property
    def logged_models(self) -> frozenset[str]:
        """The models of `payload_models`."""
        return _names(self.payload_models)

    @property
    def host_names(self) -> frozenset[str]:
        """The names of `hosts`."""
        return frozenset(name for part in self.hosts.split(",") if (name := part.strip().rstrip(".").lower()))

    @field_validator(
        "admin_key",
        "admin_key_file",
        "identity_secret",
        "identity_secret_file",
        "identity_keys_file",
        "grpc_port",
        "metrics_port",
        "openid_client_secret",
        "openid_client_secret_file",
        "redactor",
        "release_keys",
        mode="before",
    )
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        """An empty variable, as in compose files, counts as not set."""
        return None if value == "" else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        for origin in filter(None, (part.strip() for part in origins.split(","))):
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; write https://app.example.com, without a path")
        return origins

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if self.admin_key is not None and self.admin_key_file is not None:
            raise ValueError("set admin_key or admin_key_file, not both")
        try:
            secret = self.admin_secret
        except OSError as error:
            raise ValueError(f"the file of the admin key cannot be read: {error.strerror}") from None
        if secret is not None and (len(secret) < SHORTEST_SECRET or not secret.isascii() or not secret.isprintable()):
            raise ValueError(
                f"the admin key must have {SHORTEST_SECRET} or more characters of ASCII; make one with: "
                "openssl rand -hex 32"
            )
        if secret is not None and self.allow_anonymous:
            raise ValueError("allow_anonymous does not go with an admin key: choose one of them")
        if secret is None and "*" in self.origins:
            raise ValueError("cors_origins may be * only where keys are asked for: name the origins, or set admin_key")
        return self

    @model_validator(mode="after")
    def _identities_fit(self) -> Self:
        if self.identity_secret is not None and self.identity_secret_file is not None:
            raise ValueError("set identity_secret or identity_secret_file, not both")
        try:
            secret = self.identity_key
        except OSError as error:
            raise ValueError(f"the file of the identity secret cannot be read: {error.strerror}") from None
        if secret is not None and len(secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"the identity secret must have {SHORTEST_SECRET} or more bytes")
        if self.identity_keys_file is not None and not self.identity_audience:
            raise ValueError("identity_keys_file needs identity_audience: a provider signs tokens for others too")
        for claim, kind in self.identity_claims.items():
            if not claim or (kind and not KIND.fullmatch(kind)):
                raise ValueError(f"identity_claims has {kind!r} for {claim!r}; write a kind such as user or group")
        return self

    @model_validator(mode="after")
    def _openid_fits(self) -> Self:
        if self.public_url and not ORIGIN.fullmatch(self.public_url):
            raise ValueError("public_url is an address without a path, such as https://sluice.example.com")
        if not self.openid_issuer:
            return self
        if not PROTECTED.fullmatch(self.openid_issuer):
            raise ValueError("openid_issuer must begin with https://, but for a provider on this machine")
        if self.admin_secret is None:
            raise ValueError("openid_issuer needs admin_key: it makes the keys of programs, and seals sessions")
        if not self.openid_client_id:
            raise ValueError("openid_issuer needs openid_client_id")
        if not self.openid_grants:
            raise ValueError('openid_issuer needs openid_grants, such as [{"group": "staff", "actions": ["query"]}]')
        if "openid" not in self.openid_scopes.split():
            raise ValueError("openid_scopes must have openid among them")
        if self.openid_client_secret is not None and self.openid_client_secret_file is not None:
            raise ValueError("set openid_client_secret or openid_client_secret_file, not both")
        try:
            self.openid_secret  # noqa: B018  (read to see that it can be)
        except OSError as error:
            raise ValueError(f"the file of the OpenID client's secret cannot be read: {error.strerror}") from None
        return self

    @model_validator(mode="after")
    def _release_keys_fit(self) -> Self:
        if self.release_keys is not None:
            try:
                parse_keys(self.release_keys.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise ValueError(f"release_keys, the file {self.release_keys}, cannot be used: {error}") from None
        return self

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Self:
        if self.default_timeout > self.longest_deadline:
            raise ValueError("default_timeout is longer than longest_deadline")
        return self


def _names(separated: str) -> frozenset[str]:
    return frozenset(name for part in separated.split(",") if (name := part.strip()))
