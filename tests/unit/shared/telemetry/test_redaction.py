"""Passwords out of what people read."""

import logging

import pytest

from services.retriever.settings import RetrieverSettings
from shared.service.settings import ServiceSettings, describe
from shared.telemetry.redaction import redacted
from shared.telemetry.tracing import JsonFormatter
from tests.harness.growth import growth


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://user:hush@host:4222", "nats://***@host:4222"),
        ("nats://u:hush@a,tls://u:hush@b", "nats://***@a,tls://***@b"),
        ("at https://hush@host/path@2", "at https://***@host/path@2"),
        ("postgres://u:h@ush@host/db", "postgres://***@host/db"),
        ("http://host:80/path?at=a@b", "http://host:80/path?at=a@b"),
        ("mail me@example.com", "mail me@example.com"),
        ("nats://host:4222", "nats://host:4222"),
    ],
)
def test_what_stands_before_the_host_of_a_url_is_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{'aws_secret_access_key': 'hush', 'region': 'eu'}", "{'aws_secret_access_key': '***', 'region': 'eu'}"),
        ('{"api_key": "hush"}', '{"api_key": "***"}'),
        ("https://host/v1?api-key=hush&v=1", "https://host/v1?api-key=***&v=1"),
        ('{"max_tokens": 5, "tokenizer": "bpe"}', '{"max_tokens": 5, "tokenizer": "bpe"}'),
    ],
)
def test_the_values_of_secrets_are_not_shown_in_settings(text: str, shown: str) -> None:
    assert redacted(text, named=True) == shown


def test_settings_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_NATS_URL", "nats://me:hush@a:1,nats://me:hush@b:2")
    monkeypatch.setenv("SLUICE_OTLP_ENDPOINT", "https://me:hush@collector:4318")
    monkeypatch.setenv("SLUICE_NATS_USER", "me")
    monkeypatch.setenv("SLUICE_NATS_PASSWORD", "hush")
    monkeypatch.setenv("SLUICE_INDEX_STORAGE_OPTIONS", '{"aws_secret_access_key": "hush"}')
    for settings in (ServiceSettings(), RetrieverSettings()):
        shown = describe(settings)
        assert "hush" not in shown
        assert "***@a:1,nats://***@b:2" in shown


def test_a_line_of_the_log_shows_no_password() -> None:
    error = ConnectionError("no answer from nats://me:hush@host:4222")
    record = logging.makeLogRecord({"msg": "at %s", "args": ("nats://me:hush@h",), "url": "nats://me:hush@h"})
    record.exc_info = (type(error), error, None)
    line = JsonFormatter("gateway", "one").format(record)
    assert "hush" not in line
    assert line.count("***@") == 3


@pytest.mark.parametrize("text", ["a://", "b", "token", "secret = ", "a://b", "api_key", "=:"])
def test_the_time_grows_with_the_length_and_not_faster(text: str) -> None:
    assert growth(lambda size: redacted("a://" + text * size, named=True), 5_000).is_linear
