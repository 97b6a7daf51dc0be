"""The message of a dead letter, as text for those who may read it."""

from services.gateway.admin.dead_letters import LONGEST, payload_text
from services.gateway.auth.principal import ANONYMOUS, Principal


def test_a_message_is_text_up_to_a_limit() -> None:
    assert payload_text(ANONYMOUS, "query.embed.default", b"\xff" + b"x" * LONGEST) == "\ufffd" + "x" * (LONGEST - 1)


def test_the_message_of_a_query_is_hidden_from_those_who_do_not_see_every_document() -> None:
    reader = Principal(tenant="default", identity=("user:alice",))
    assert payload_text(reader, "query.embed.default", b"passages") is None
    assert payload_text(reader, "job.command.normal.default", b"{}") == "{}"
