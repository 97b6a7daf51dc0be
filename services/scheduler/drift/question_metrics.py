"""What is shown of the drift of questions."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.scheduler.drift.two_samples import Difference

__all__ = ["COMPARISONS", "QuestionMetrics"]

LABELS: Final = ("tenant", "collection")
WINDOWS: Final = ("reference", "recent")

DISTANCE = Gauge(
    "sluice_question_drift_distance",
    "Energy coefficient of the embeddings of recent questions and of those before: 0 alike, to 1.",
    LABELS,
)
P_VALUE = Gauge(
    "sluice_question_drift_p_value",
    "Probability of such a distance, or a larger one, between questions of one distribution; at least 0.001.",
    LABELS,
)
SCORE_DISTANCE = Gauge(
    "sluice_score_drift_distance",
    "Kolmogorov-Smirnov distance of the scores of recent questions from those before, 0 to 1, by the score: best "
    "(of the best source) or confidence.",
    (*LABELS, "score"),
)
SCORE_P_VALUE = Gauge(
    "sluice_score_drift_p_value",
    "Probability of such a distance, or a larger one, between scores of one distribution; at least 0.001.",
    (*LABELS, "score"),
)
QUESTIONS = Gauge(
    "sluice_question_drift_questions",
    "Questions that were compared, by their window: recent or reference.",
    (*LABELS, "window"),
)
COMPARISONS = Counter(
    "sluice_question_drift_comparisons_total",
    "Comparisons of a collection's questions by what became of them: compared, too-few (questions) or failed.",
    ("outcome",),
)

Place = tuple[str, str]


class QuestionMetrics:
    """The collections that one process shows. What is not shown any more has no series."""

    def __init__(self) -> None:
        self._shown: dict[Place, set[str]] = {}

    def show(self, place: Place, questions: Difference, scores: dict[str, Difference], sizes: tuple[int, int]) -> None:
        """`sizes` are those of the reference and of the recent window; `scores` are by the name of the score."""
        DISTANCE.labels(*place).set(questions.distance)
        P_VALUE.labels(*place).set(questions.p_value)
        for window, size in zip(WINDOWS, sizes, strict=True):
            QUESTIONS.labels(*place, window).set(size)
        for score in self._shown.get(place, set()) - set(scores):
            self._remove_score(place, score)
        for score, difference in scores.items():
            SCORE_DISTANCE.labels(*place, score).set(difference.distance)
            SCORE_P_VALUE.labels(*place, score).set(difference.p_value)
        self._shown[place] = set(scores)

    def keep(self, places: set[Place]) -> None:
        """Remove all others."""
        for place in self._shown.keys() - places:
            for score in self._shown.pop(place):
                self._remove_score(place, score)
            DISTANCE.remove(*place)
            P_VALUE.remove(*place)
            for window in WINDOWS:
                QUESTIONS.remove(*place, window)

    def _remove_score(self, place: Place, score: str) -> None:
        SCORE_DISTANCE.remove(*place, score)
        SCORE_P_VALUE.remove(*place, score)
