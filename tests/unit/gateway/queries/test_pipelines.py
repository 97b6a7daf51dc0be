"""Named pipelines become slips, and mistakes in their file are told before anything starts."""

from pathlib import Path

import pytest

from services.gateway.queries.pipelines import Pipelines, PipelinesError, load_pipelines
from shared.contracts.envelope import Stop
from shared.contracts.problems import Problem, ProblemType

FILE = """
pipelines:
  brief:
    - embed
    - {stage: retrieve, params: {mode: vector, top_k: 3, filter: {public: true}}}
    - {stage: generate, variant: canary}
  search: [embed]
"""


@pytest.fixture
def pipelines(tmp_path: Path) -> Pipelines:
    path = tmp_path / "pipelines.yaml"
    path.write_text(FILE)
    return load_pipelines(path)


def test_the_built_in_pipeline_embeds_retrieves_and_generates() -> None:
    slip = Pipelines().slip("default", top_k=None, default_top_k=5, request_filter=None)
    assert [stop.stage for stop in slip] == ["embed", "retrieve", "generate"]
    assert slip[1].params == {"top_k": 5, "filter": None}


def test_a_file_adds_pipelines_beside_the_default(pipelines: Pipelines) -> None:
    assert sorted(pipelines.named) == ["brief", "default", "rerank", "search"]
    assert pipelines.get("brief")[2].variant == "canary"


def test_a_file_may_replace_the_default(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("pipelines: {default: [embed, retrieve]}")
    assert len(load_pipelines(tmp_path / "p.yaml").get("default")) == 2


def test_the_request_s_top_k_goes_before_the_pipeline_s_and_that_before_the_default(pipelines: Pipelines) -> None:
    body = pipelines.slip("brief", top_k=9, default_top_k=5, request_filter=None)
    silent = pipelines.slip("brief", top_k=None, default_top_k=5, request_filter=None)
    assert (body[1].params["top_k"], silent[1].params["top_k"]) == (9, 3)
    assert body[1].params["mode"] == "vector"


def test_a_request_cannot_widen_the_pipeline_s_filter(pipelines: Pipelines) -> None:
    slip = pipelines.slip("brief", top_k=None, default_top_k=5, request_filter={"public": False})
    assert slip[1].params["filter"] == {"$and": [{"public": True}, {"public": False}]}


def test_a_question_that_others_came_before_is_made_to_stand_alone_first(pipelines: Pipelines) -> None:
    slip = pipelines.slip("brief", top_k=None, default_top_k=5, request_filter=None, condense=True)
    assert [(stop.stage, stop.variant) for stop in slip][:2] == [("condense", "default"), ("embed", "default")]


@pytest.mark.parametrize("stages", ["[embed, retrieve]", "[generate]", "[{stage: condense, variant: own}, retrieve]"])
def test_a_pipeline_that_has_its_own_way_with_questions_or_no_use_for_it_stays_as_it_is(
    tmp_path: Path, stages: str
) -> None:
    (tmp_path / "p.yaml").write_text(f"pipelines: {{own: {stages}}}")
    named = load_pipelines(tmp_path / "p.yaml")
    assert named.slip("own", top_k=None, default_top_k=5, request_filter=None, condense=True) == named.slip(
        "own", top_k=None, default_top_k=5, request_filter=None
    )


def test_the_pipeline_rerank_retrieves_more_than_it_keeps() -> None:
    slip = Pipelines().slip("rerank", top_k=None, default_top_k=5, request_filter=None)
    assert [(stop.stage, stop.params.get("top_k")) for stop in slip] == [
        ("embed", None),
        ("retrieve", 40),
        ("rerank", 5),
        ("generate", None),
    ]


def test_a_request_inserts_reranking_after_retrieval(pipelines: Pipelines) -> None:
    slip = pipelines.slip("brief", top_k=None, default_top_k=5, request_filter=None, rerank=True, candidates=20)
    assert [(stop.stage, stop.params.get("top_k")) for stop in slip] == [
        ("embed", None),
        ("retrieve", 20),
        ("rerank", 3),
        ("generate", None),
    ]
    assert slip[1].params["mode"] == "vector"


def test_there_are_never_fewer_candidates_than_passages_to_keep() -> None:
    slip = Pipelines().slip("rerank", top_k=60, default_top_k=5, request_filter=None, candidates=10)
    assert [stop.params["top_k"] for stop in slip[1:3]] == [60, 60]


def test_a_pipeline_that_reranks_already_does_so_once() -> None:
    built_in = Pipelines()
    options = {"top_k": 5, "default_top_k": 5, "request_filter": None}
    assert built_in.slip("rerank", rerank=True, **options) == built_in.slip("rerank", **options)  # type: ignore[arg-type]


def test_a_pipeline_that_does_not_retrieve_cannot_rerank(pipelines: Pipelines) -> None:
    with pytest.raises(Problem, match="nothing to rerank") as caught:
        pipelines.slip("search", top_k=None, default_top_k=5, request_filter=None, rerank=True)
    assert caught.value.kind is ProblemType.INVALID_REQUEST


def test_a_filter_that_no_stage_would_apply_is_refused(pipelines: Pipelines) -> None:
    with pytest.raises(Problem) as caught:
        pipelines.slip("search", top_k=None, default_top_k=5, request_filter={"a": 1})
    assert caught.value.kind is ProblemType.INVALID_FILTER


def test_an_unknown_pipeline_is_refused_with_those_that_exist(pipelines: Pipelines) -> None:
    with pytest.raises(Problem, match="brief, default, rerank, search") as caught:
        pipelines.get("nope")
    assert caught.value.kind is ProblemType.PIPELINE_NOT_FOUND


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("pipelines: {a: [embed, {stag: x}]}", "pipelines > a > stop 2 > stag"),
        ("pipelines: {a: []}", "pipelines > a"),
        ("pipelines: {a: [Embed]}", "pipelines > a > stop 1"),
        ("pipelines: {'Not a name': [embed]}", "pipelines > Not a name"),
        ("pipeline: {}", "pipeline"),
        ("[1, 2]", "the file"),
        ("", "the file"),
        ("a: [", "not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(text)
    with pytest.raises(PipelinesError) as caught:
        load_pipelines(path)
    assert str(path) in str(caught.value)
    assert place in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PipelinesError, match="No such file"):
        load_pipelines(tmp_path / "none.yaml")


def test_a_collection_that_has_candidates_is_reranked_unless_the_request_says_otherwise() -> None:
    def stops(**options: object) -> list[tuple[str, object]]:
        slip = Pipelines({"search": (Stop(stage="redact"),)}).slip(
            top_k=None,
            default_top_k=5,
            request_filter=None,
            collection_candidates=20,
            **{"name": "default", **options},  # type: ignore[arg-type]
        )
        return [(stop.stage, stop.params.get("top_k")) for stop in slip]

    reranked = [("embed", None), ("retrieve", 20), ("rerank", 5), ("generate", None)]
    assert stops() == stops(rerank=True) == reranked
    assert stops(candidates=60)[1] == ("retrieve", 60)
    assert stops(rerank=False) == [("embed", None), ("retrieve", 5), ("generate", None)]
    assert stops(name="search") == [("redact", None)]


def test_what_retrieves_from_a_restricted_collection_is_guarded_with_all_its_filters(pipelines: Pipelines) -> None:
    request = {"top_k": None, "default_top_k": 5, "request_filter": {"public": False}}
    slip = pipelines.slip("brief", restricted=True, **request)
    assert slip[1].params["filter"] == {"$permitted": {"$and": [{"public": True}, {"public": False}]}}
    bare = pipelines.slip("default", restricted=True, **{**request, "request_filter": None})
    assert [stop.params.get("filter") for stop in bare if stop.stage == "retrieve"] == [{"$permitted": {}}]
