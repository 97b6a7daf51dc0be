"""A shadow's answer beside the live one."""

import pytest
from prometheus_client import REGISTRY

from services.gateway.variants.shadow_metrics import Comparison, Run, source_overlap, text_overlap


def run(seconds: float, text: str = "a b", worked: float | None = 0.5) -> Run:
    sources = frozenset({("d", 1)})
    return Run(seconds=seconds, first_delta=None, worked=worked, tokens=3, text=text, sources=sources)


def sample(name: str, variant: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"stage": "generate", "variant": variant, **labels}) or 0.0


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [("", "", 1), ("a", "", 0), ("The lamp", "the  lamp", 1), ("a b", "c d", 0), ("a a b", "a b b", 2 / 3)],
)
def test_texts_overlap_in_the_words_that_both_have(one: str, other: str, overlap: float) -> None:
    assert text_overlap(one, other) == pytest.approx(overlap)
    assert text_overlap(other, one) == pytest.approx(overlap)


def test_sources_overlap_in_what_both_have_of_what_either_has() -> None:
    some, others = frozenset({("a", 1), ("b", 1)}), frozenset({("a", 1), ("a", 2)})
    assert source_overlap(some, others) == pytest.approx(1 / 3)
    assert source_overlap(frozenset(), frozenset()) == 1
    assert source_overlap(some, frozenset()) == 0


@pytest.mark.parametrize("order", [("live", "shadow"), ("shadow", "live")])
def test_a_pair_is_counted_once_both_sides_are_there_in_whatever_order(order: tuple[str, str]) -> None:
    variant = "-".join(order)
    comparison = Comparison("generate", variant)
    comparison.note(order[0], run(1.0 if order[0] == "live" else 3.0))
    assert sample("sluice_shadow_seconds_count", variant, side=order[0]) == 0
    comparison.note(order[1], run(1.0 if order[1] == "live" else 3.0, "a c", worked=None))
    assert sample("sluice_shadow_seconds_sum", variant, side="live") == 1
    assert sample("sluice_shadow_seconds_sum", variant, side="shadow") == 3
    assert sample("sluice_shadow_completion_tokens_sum", variant, side="shadow") == 3
    assert sample("sluice_shadow_stage_work_seconds_count", variant, side=order[0]) == 1
    assert sample("sluice_shadow_stage_work_seconds_count", variant, side=order[1]) == 0
    assert sample("sluice_shadow_first_delta_seconds_count", variant, side="live") == 0
    assert sample("sluice_shadow_text_overlap_sum", variant) == 0.5
    assert sample("sluice_shadow_source_overlap_sum", variant) == 1
