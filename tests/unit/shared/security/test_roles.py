"""The permissions of the broker's users, as they are written down."""

from pathlib import Path

import pytest

from shared.nats.settings import QueueSettings
from shared.nats.streams import buckets, cache_stream, durable_streams, join_bucket, query_stream, stores
from shared.nats.subjects import EVERYTHING
from shared.security.broker_config import accounts_conf, read_pipelines, table, write_secrets
from shared.security.roles import ADMIN, Deployment, role_of, roles
from tests.harness.paths import DOCS

PIPELINES = "pipelines:\n  redacted: [embed, retrieve, {stage: redact, params: {mask: x}}, generate]\n"


def test_the_documentation_shows_what_each_user_may_do() -> None:
    assert table(roles()) in (DOCS / "broker.md").read_text(), "run `python -m shared.security.broker_config --table`"


def test_every_stream_that_is_made_is_known_by_name() -> None:
    settings = QueueSettings()
    made = {
        query_stream(settings).name,
        cache_stream(settings).name,
        *(stream.name for stream in durable_streams(settings)),
    }
    made |= {f"KV_{bucket.bucket}" for bucket in (*buckets(settings), join_bucket(settings))} | {
        f"OBJ_{store.bucket}" for store in stores(settings)
    }
    assert made == EVERYTHING


def test_every_stream_has_one_who_makes_it() -> None:
    makers = {stream for role in roles() if role.name != ADMIN for stream in role.ownership.makes}
    assert makers == EVERYTHING


def test_a_pipelines_file_says_who_forwards_to_whom(tmp_path: Path) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(PIPELINES)
    known = {role.name: role for role in roles(read_pipelines(path))}
    assert "query.redact.*.*.*" in known["retriever"].publish
    assert "query.generate.*.*.*" in known["stage-redact"].publish
    assert "query.redact.*.*.*" in known["embedder"].publish  # a request may insert `rerank` before it
    assert "query.redact.*.*.*" not in known["generator"].publish
    assert "query.index.*.*.*" not in known["stage-redact"].publish


GRAPH = """
pipelines:
  guarded:
    - ensemble:
        - {name: guard, then: [judge]}
        - {name: search, then: [retrieve]}
    - generate
  kept: [retrieve, {cache: [redact], seconds: 60}, generate]
"""


def test_a_graph_gives_the_stage_that_a_request_may_insert_its_place_too(tmp_path: Path) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(GRAPH)
    known = {role.name: role for role in roles(read_pipelines(path))}
    # Any branch may be the last that ends.
    assert {"query.generate.*.*.*", "query.rerank.*.*.*"} <= set(known["stage-judge"].publish)
    assert "query.redact.*.*.*" not in known["stage-judge"].publish
    # What reranks goes on into a cache, and that of another pipeline may come after an ensemble.
    assert {"query.redact.*.*.*", "query.generate.*.*.*", "cache.*"} <= set(known["embedder"].publish)
    assert "cache.*" not in known["stage-judge"].publish
    # Whoever ends a branch looks up its record, and is not given those of all queries.
    assert "$KV.joins.>" in known["stage-judge"].publish
    assert not [each for each in known["stage-judge"].publish if "CONSUMER" in each and "KV_joins" in each]
    assert "$KV.joins.>" not in known["stage-redact"].publish


@pytest.mark.parametrize("text", ["[]", "pipelines: 3", "pipelines: {a: [{variant: x}]}", ": :"])
def test_a_file_that_holds_no_pipelines_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no pipelines file"):
        read_pipelines(path)


def test_further_variants_get_their_queues() -> None:
    generator = {role.name: role for role in roles(Deployment(variants={"generate": ["legal"]}))}["generator"]
    assert "$JS.API.CONSUMER.MSG.NEXT.QUERIES.generate_legal_batch" in generator.publish


def test_no_password_stands_in_clear_in_what_the_broker_is_given() -> None:
    passwords = {name: f"secret-of-{name}" for name in (*(role.name for role in roles()), "sys")}
    assert "secret-of" not in accounts_conf(roles(), passwords)


def test_written_again_nothing_changes(tmp_path: Path) -> None:
    def written() -> list[str]:
        write_secrets(tmp_path, Deployment())
        return [path.read_text() for path in sorted(tmp_path.iterdir())]

    assert written() == written()


def test_only_sluices_own_names_are_roles() -> None:
    assert role_of("somebody") is None
    own = role_of("stage-redact")
    assert own is not None
    assert own.ownership.makes == frozenset()
