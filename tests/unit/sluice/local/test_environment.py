"""What each process of `sluice up` gets of the user's environment."""

from importlib import import_module

import pytest
from pydantic import SecretStr

from shared.service.settings import ServiceSettings
from sluice.local.environment import SECRETS, broker_environment, program_environment, service_environment

SERVICES = ("gateway", "embedder", "retriever", "generator", "predictor", "scheduler")
SHARED_SECRETS = {"nats_password", "otlp_headers"}
"""Of the broker, whose settings `sluice up` makes itself, and of traces, which every service sends."""


def settings_of(service: str) -> type[ServiceSettings]:
    module = import_module(f"services.{service}.settings")
    found: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_every_secret_setting_is_the_one_services_that_reads_it(service: str) -> None:
    fields = settings_of(service).model_fields
    secret = {name for name, field in fields.items() if SecretStr.__name__ in str(field.annotation)} - SHARED_SECRETS
    known = {name for name, owner in SECRETS.items() if owner == service}
    assert {f"SLUICE_{name.upper()}" for name in secret} <= known


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_its_settings_and_no_other_services_secret(service: str) -> None:
    own = dict.fromkeys(SECRETS, "x") | {"SLUICE_LOG_LEVEL": "DEBUG", "SLUICE_NATS_PASSWORD": "x", "PATH": "/bin"}
    given = service_environment(service, own)
    assert given.keys() & SECRETS.keys() == {name for name, owner in SECRETS.items() if owner == service}
    assert given["SLUICE_LOG_LEVEL"] == "DEBUG"
    assert given["PATH"] == "/bin"
    assert "SLUICE_NATS_PASSWORD" not in given


def test_what_nobody_is_known_to_need_is_given_only_where_the_user_says_so() -> None:
    own = {"GITHUB_TOKEN": "x", "MY_PLUGIN": "1", "AWS_SECRET_ACCESS_KEY": "x", "https_proxy": "http://p"}
    assert service_environment("gateway", own) == {"https_proxy": "http://p"}
    assert service_environment("gateway", own, ("MY_PLUGIN",)) == {"https_proxy": "http://p", "MY_PLUGIN": "1"}
    assert broker_environment(own) == program_environment(own) == {}
