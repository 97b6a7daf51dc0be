"""Variants by weight: in proportion, always the same for a key, and with no more movement than a change asks for."""

from collections import Counter

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.variants.selector import Router, choose
from shared.contracts.envelope import Query, Stop
from shared.contracts.graphs import stages
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.routes import Route

KEYS = [f"conversation-{number}" for number in range(20_000)]
NAMES = st.sampled_from(["default", "canary", "big", "small", "legal"])
WEIGHTS = st.dictionaries(NAMES, st.floats(0.01, 100), min_size=1)
SLIP = (Stop(stage="embed"), Stop(stage="retrieve", params={"top_k": 3}), Stop(stage="generate"))


def route(**weights: float) -> Route:
    return Route(stage="generate", weights=weights)


def query(slip: tuple[Stop, ...], name: str = "q") -> Query:
    return Query(id=name, asked_at=0, deadline=30, reply="-", slip=slip)


@given(st.dictionaries(NAMES, st.floats(1, 20), min_size=1))
def test_each_variant_gets_keys_in_proportion_to_its_weight(weights: dict[str, float]) -> None:
    chosen = Counter(choose(route(**weights), key) for key in KEYS[:4000])
    for variant, weight in weights.items():
        share = weight / sum(weights.values())
        # Five standard deviations of a binomial share. Keys and examples are fixed, so this holds always or never.
        assert chosen[variant] / 4000 == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5 + 1e-9)


def test_a_canary_at_ten_percent_gets_ten_percent_of_twenty_thousand_conversations() -> None:
    taken = sum(choose(route(default=90, canary=10), key) == "canary" for key in KEYS)
    assert taken / len(KEYS) == pytest.approx(0.1, abs=0.01)


@given(WEIGHTS, st.text(), st.floats(0.001, 1000))
def test_a_key_keeps_its_variant_however_weights_are_written(weights: dict[str, float], key: str, scale: float) -> None:
    chosen = choose(route(**weights), key)
    backwards = {name: weights[name] * scale for name in reversed(weights)}
    assert choose(route(**backwards), key) == chosen


def test_the_choice_is_the_same_in_every_version() -> None:
    chosen = [choose(route(default=1, canary=1), f"conversation-{number}") for number in range(12)]
    assert "".join(variant[0] for variant in chosen) == "cccdddcdddcd"


def test_a_heavier_canary_takes_keys_and_gives_none_back() -> None:
    before, after = route(default=90, canary=10), route(default=80, canary=20)
    moved = [(choose(before, key), choose(after, key)) for key in KEYS]
    assert set(moved) == {("default", "default"), ("canary", "canary"), ("default", "canary")}
    assert moved.count(("default", "canary")) / len(KEYS) == pytest.approx(0.1, abs=0.01)


@given(WEIGHTS, st.text(), st.floats(0.01, 100))
def test_a_new_variant_takes_keys_but_moves_none_between_the_others(
    weights: dict[str, float], key: str, weight: float
) -> None:
    assert choose(route(**weights, new=weight), key) in ("new", choose(route(**weights), key))


def test_a_variant_without_weight_gets_nothing() -> None:
    assert {choose(route(default=1, canary=0), key) for key in KEYS[:1000]} == {"default"}


def test_stages_choose_independently_of_each_other() -> None:
    weights = {"default": 50.0, "canary": 50.0}
    one, other = Route(stage="generate", weights=weights), Route(stage="retrieve", weights=weights)
    both = Counter((choose(one, key), choose(other, key)) for key in KEYS)
    assert all(count / len(KEYS) == pytest.approx(0.25, abs=0.02) for count in both.values())


def test_a_slip_is_routed_where_it_names_no_variant() -> None:
    router = Router({"generate": route(canary=1), "embed": Route(stage="embed", weights={"other": 1})})
    pinned = (*SLIP[:2], Stop(stage="generate", variant="legal"))
    assert [stop.variant for stop in router.route(SLIP, "k")] == ["other", "default", "canary"]
    assert [stop.variant for stop in router.route(pinned, "k")] == ["other", "default", "legal"]
    assert router.route(SLIP, "k")[1] == SLIP[1]
    assert Router().route(SLIP, "k") == SLIP


def test_a_draw_by_weight_is_noted_with_its_probability() -> None:
    slip = (Stop(stage="embed"), Stop(stage="rerank", variant="legal"), Stop(stage="generate"))
    router = Router({"generate": route(default=75, canary=25), "embed": Route(stage="embed", weights={"fast": 1})})
    router.update({**router.routes, "rerank": Route(stage="rerank", weights={"legal": 1, "default": 1})})
    found = {
        router.route(slip, f"{key}")[-1].variant: router.shares(slip, router.route(slip, f"{key}")) for key in range(50)
    }
    assert found == {"default": {"generate": 0.75}, "canary": {"generate": 0.25}}


def test_a_follow_up_is_condensed_by_the_variant_that_answers_it() -> None:
    router = Router({"generate": route(default=50, canary=50)})
    slip = (Stop(stage="condense"), *SLIP)
    for key in KEYS[:100]:
        routed = router.route(slip, key)
        assert routed[0].variant == routed[-1].variant
    router.update({**router.routes, "condense": Route(stage="condense", weights={"small": 1})})
    assert router.route(slip, "k")[0].variant == "small"


def test_a_shadow_gets_its_share_of_queries_and_a_slip_with_its_variant() -> None:
    router = Router({"generate": Route(stage="generate", shadows={"canary": 10})})
    copies = [router.copies(query(SLIP, f"q{number}")) for number in range(5000)]
    made = [copy for found in copies for copy in found]
    assert len(made) / 5000 == pytest.approx(0.1, abs=0.02)
    assert {(copy.stage, copy.variant) for copy in made} == {("generate", "canary")}
    assert made[0].slip == (*SLIP[:2], Stop(stage="generate", variant="canary"))


def test_what_already_goes_to_the_shadows_variant_or_is_pinned_elsewhere_is_not_copied() -> None:
    router = Router({"generate": Route(stage="generate", weights={"default": 1, "canary": 1}, shadows={"canary": 100})})
    assert len(router.copies(query(SLIP))) == 1
    for variant in ("canary", "legal"):
        assert router.copies(query((Stop(stage="generate", variant=variant),))) == ()
    assert router.copies(query(SLIP[:2])) == ()


def test_a_stage_anywhere_in_a_graph_is_copied() -> None:
    router = Router({"retrieve": Route(stage="retrieve", shadows={"canary": 100})})
    steps = """
    - cache: [{ensemble: [{name: a, then: [embed, retrieve]}, {name: b, then: [{stage: retrieve, variant: own}]}]}]
      seconds: 60
    - generate
    """
    slip = read_pipelines({"pipelines": {"p": yaml.safe_load(steps)}})["p"]
    (copy,) = router.copies(query(slip))
    visited = [(stop.stage, stop.variant) for stop in stages(copy.slip)]
    assert visited == [("embed", "default"), ("retrieve", "canary"), ("retrieve", "own"), ("generate", "default")]


def test_a_shadow_of_none_and_of_all_means_so() -> None:
    for percent, made in ((0, 0), (100, 300)):
        router = Router({"generate": Route(stage="generate", shadows={"canary": percent})})
        assert sum(len(router.copies(query(SLIP, f"q{number}"))) for number in range(300)) == made


@pytest.mark.parametrize(
    "members",
    [
        {"weights": {"default": 0}},
        {"weights": {"default": -1}},
        {"weights": {"default": float("nan")}},
        {"weights": {"default": float("inf")}},
        {"weights": {"Not A Name": 1}},
        {"weights": {f"v{number}": 1 for number in range(33)}},
        {"shadows": {"canary": 101}},
        {"shadows": {"a.b": 1}},
        {"stage": "*"},
    ],
)
def test_a_route_that_makes_no_sense_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate({"stage": "generate", **members})
