import pytest

from services.scheduler.tuning.search import CANDIDATES, Setting, Space, Trial, best, propose
from shared.contracts.jobs import ChunkSize
from shared.contracts.retrieval import Fusion, RetrievalOptions, SearchMode

SMALL, LARGE = ChunkSize(tokens=64, overlap=8), ChunkSize(tokens=512, overlap=64)
SPACE = Space(
    base=Setting(retrieval=RetrievalOptions(context=1)), candidates=(0, *CANDIDATES), chunks=(None, SMALL, LARGE)
)


def _score(setting: Setting) -> float:
    """Highest for a hybrid search that weighs meaning by 0.8."""
    weight = setting.retrieval.dense_weight if setting.retrieval.dense_weight is not None else 0.0
    return 1 - abs(weight - 0.8) - (setting.retrieval.diversity or 0) / 10 - (setting.chunks is not None) / 20


def _searched(count: int, seed: int, earlier: list[Trial] | None = None, space: Space = SPACE) -> list[Trial]:
    trials = list(earlier or [])
    while len(trials) < count and (setting := propose(trials, space, seed)) is not None:
        trials.append(Trial(setting=setting, score=_score(setting)))
    return trials


def test_the_first_trial_is_the_default() -> None:
    assert propose([], SPACE, seed=3) == SPACE.base


@pytest.mark.parametrize("broken_off_after", [1, 12, 24])
def test_a_resumed_search_is_the_uninterrupted_one(broken_off_after: int) -> None:
    whole = _searched(25, seed=7)
    saved = [Trial.model_validate_json(trial.model_dump_json()) for trial in whole[:broken_off_after]]
    assert _searched(25, seed=7, earlier=saved) == whole


def test_the_seed_decides_and_the_search_finds_the_better_setting() -> None:
    trials = _searched(40, seed=1)
    assert trials != _searched(40, seed=2)
    found = best(trials).setting
    assert found.retrieval.mode is SearchMode.HYBRID
    assert found.retrieval.dense_weight == pytest.approx(0.8, abs=0.15)


def test_no_setting_is_tried_twice_and_other_options_stay_as_they_are() -> None:
    settings = [trial.setting for trial in _searched(60, seed=4)]
    assert all(setting not in settings[:place] for place, setting in enumerate(settings))
    assert {setting.retrieval.context for setting in settings} == {1}
    assert {setting.chunks for setting in settings} == {None, SMALL, LARGE}
    assert {setting.rerank_candidates for setting in settings} == {0, *CANDIDATES}


def test_options_without_effect_are_left_out() -> None:
    for setting in (trial.setting for trial in _searched(60, seed=5)[1:]):
        options = setting.retrieval
        assert (options.fusion is None) == (options.mode is not SearchMode.HYBRID)
        assert (options.dense_weight is None) == (options.fusion is not Fusion.SCORES)
        assert (options.diversity is None) == (options.mode is SearchMode.TEXT)


def test_a_default_beside_the_searched_values_is_no_obstacle() -> None:
    base = Setting(retrieval=RetrievalOptions(dense_weight=0.333, diversity=0.9), rerank_candidates=30)
    assert len(_searched(5, seed=1, space=Space(base=base, candidates=(30,)))) == 5


def test_of_equal_scores_the_earliest_is_best() -> None:
    first, second = (
        Trial(setting=Setting(retrieval=RetrievalOptions(diversity=share)), score=0.5) for share in (0.1, 0.2)
    )
    assert best([first, second]) is first


def test_a_setting_says_what_it_is() -> None:
    setting = Setting(retrieval=RetrievalOptions(dense_weight=0.4), rerank_candidates=20, chunks=SMALL)
    assert str(setting) == "dense_weight 0.4, rerank_candidates 20, chunk_tokens 64, chunk_overlap 8"
    assert str(Setting()) == "the defaults"
