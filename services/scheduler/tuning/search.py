"""Which options the next trial tries, from the results of those before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pydantic import BaseModel, ConfigDict

from shared.contracts.jobs import ChunkSize
from shared.contracts.retrieval import Fusion, RetrievalOptions, SearchMode

__all__ = ["CANDIDATES", "CHUNKS", "CONDITIONS", "Setting", "Space", "Trial", "best", "propose", "recorded"]

CANDIDATES: Final = (20, 40, 80)
"""Passages among which a reranker chooses."""

MODES: Final = tuple(mode.value for mode in SearchMode)
FUSIONS: Final = tuple(fusion.value for fusion in Fusion)
STEP: Final = 0.05
MOST_DIVERSITY: Final = 0.5
ATTEMPTS: Final = 10
"""Proposals of the estimator, and then of chance, until one is new."""

MODE: Final = "mode"
FUSION: Final = "fusion"
WEIGHT: Final = "dense_weight"
DIVERSITY: Final = "diversity"
RERANKED: Final = "rerank_candidates"
CHUNKS: Final = "chunks"

CONDITIONS: Final = {
    FUSION: "in hybrid searches",
    WEIGHT: "in hybrid searches whose fusion is scores",
    DIVERSITY: "in searches by vectors",
}
"""In which trials an option has an effect. Others do not set it."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Setting(BaseModel):
    """What a trial tries: how passages are searched, how many the reranker chooses from (0: it is not asked), and how
    documents are cut (None: as in the live version)."""

    model_config = ConfigDict(frozen=True)

    retrieval: RetrievalOptions = RetrievalOptions()
    rerank_candidates: int = 0
    chunks: ChunkSize | None = None

    def __str__(self) -> str:
        parts = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.named]
        return ", ".join(parts) or "the defaults"

    @property
    def named(self) -> list[tuple[str, object]]:
        """The options that are set, by their names."""
        named: list[tuple[str, object]] = list(self.retrieval.as_params().items())
        if self.rerank_candidates:
            named.append((RERANKED, self.rerank_candidates))
        if self.chunks is not None:
            named.append(("chunk_tokens", self.chunks.tokens))
            if self.chunks.overlap is not None:
                named.append(("chunk_overlap", self.chunks.overlap))
        return named


class Trial(BaseModel):
    """A setting and its mean nDCG@10 on the questions to tune on. `failed` questions had no result, and count as 0; of
    `unscored` ones the reranker has not scored all candidates in its time."""

    model_config = ConfigDict(frozen=True)

    setting: Setting
    score: float
    failed: int = 0
    unscored: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a trial may change of `base`, besides the options of retrieval: the candidates of the reranker, and the way
    to cut documents. The base's own are among them."""

    base: Setting
    candidates: tuple[int, ...] = (0,)
    chunks: tuple[ChunkSize | None, ...] = (None,)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The values of each parameter. Those of chunks are places in `chunks`, as Optuna wants plain values."""
        return {
            MODE: CategoricalDistribution(MODES),
            FUSION: CategoricalDistribution(FUSIONS),
            WEIGHT: FloatDistribution(0, 1, step=STEP),
            DIVERSITY: FloatDistribution(0, MOST_DIVERSITY, step=STEP),
            RERANKED: CategoricalDistribution(self.candidates),
            CHUNKS: CategoricalDistribution(range(len(self.chunks))),
        }


def propose(trials: Sequence[Trial], space: Space, seed: int) -> Setting | None:
    """What to try after `trials`, by the tree-structured Parzen estimator (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", 2011); the base first of all. None where it finds nothing that is not tried yet.

    The same trials and seed always give the same setting: a search that was broken off goes on as it would have.
    """
    if not trials:
        return space.base
    for attempt in range(2 * ATTEMPTS):
        # A sampler's own state would be lost with the process, so each trial has a sampler of its own.
        chance = (seed + len(trials) + attempt * 2**20) % 2**32
        # An estimator that is sure proposes the same again and again.
        made = optuna.samplers.TPESampler if attempt < ATTEMPTS else optuna.samplers.RandomSampler
        study = optuna.create_study(direction="maximize", sampler=made(seed=chance))
        for trial in trials:
            study.add_trial(recorded(trial, space))
        setting = _asked(study.ask(), space)
        if all(setting != trial.setting for trial in trials):
            return setting
    return None


def best(trials: Sequence[Trial]) -> Trial:
    """The highest score; of equals the earliest. Needs one trial."""
    return max(trials, key=lambda trial: trial.score)


def _asked(asked: optuna.Trial, space: Space) -> Setting:
    """The options that do nothing in a mode are left out, so that equal settings are equal."""

    chosen: dict[str, object] = dict.fromkeys((FUSION, WEIGHT, DIVERSITY))
    chosen[MODE] = mode = SearchMode(asked.suggest_categorical(MODE, MODES))
    if mode is SearchMode.HYBRID:
        chosen[FUSION] = fusion = Fusion(asked.suggest_categorical(FUSION, FUSIONS))
        if fusion is Fusion.SCORES:
            chosen[WEIGHT] = round(asked.suggest_float(WEIGHT, 0, 1, step=STEP), 2)
    if mode is not SearchMode.TEXT:
        chosen[DIVERSITY] = round(asked.suggest_float(DIVERSITY, 0, MOST_DIVERSITY, step=STEP), 2)
    return Setting(
        retrieval=space.base.retrieval.model_copy(update=chosen),
        rerank_candidates=asked.suggest_categorical(RERANKED, space.candidates),
        chunks=space.chunks[asked.suggest_categorical(CHUNKS, range(len(space.chunks)))],
    )


def recorded(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    """What was tried, as Optuna knows it. What the base leaves to defaults elsewhere, and what lies beside the values
    that are searched, it does not learn."""
    options, distributions = trial.setting.retrieval, space.distributions
    known: dict[str, object] = {
        MODE: options.mode or SearchMode.HYBRID,
        FUSION: options.fusion,
        WEIGHT: options.dense_weight,
        DIVERSITY: options.diversity,
        RERANKED: trial.setting.rerank_candidates,
        CHUNKS: space.chunks.index(trial.setting.chunks) if trial.setting.chunks in space.chunks else None,
    }
    chosen = {}
    for name, value in known.items():
        plain = getattr(value, "value", value)
        if plain is not None and _is_searched(plain, distributions[name]):
            chosen[name] = plain
    return optuna.trial.create_trial(
        params=chosen, distributions={name: distributions[name] for name in chosen}, value=trial.score
    )


def _is_searched(value: object, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution)
    assert isinstance(value, float)
    steps = (value - distribution.low) / STEP
    return distribution.low <= value <= distribution.high and abs(steps - round(steps)) < STEP / 100
