"""How sure an answer can be, and which questions the passages cannot answer."""

from collections.abc import Sequence

import anyio
import pytest

from services.generator.grounding.confidence import Assessment, Assessor, confidence_of
from services.generator.grounding.decline import decline
from shared.contracts.envelope import Passage
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio

PUMP = "Part PPR-9063 is a pump of brass, 40 mm wide. It is kept in the cellar."


def passage(text: str, *, score: float = 0.6, similarity: float | None = 0.6, coverage: float | None = 0.9) -> Passage:
    return Passage(
        id=text,
        document_id="d",
        document="d.txt",
        position=0,
        text=text,
        score=score,
        similarity=similarity,
        coverage=coverage,
    )


class Meaning:
    """Vectors in which a text lies near another one where both have the same one of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.asked: list[str] = []

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        found = [[float(word in text) for word in self.words] for text in texts]
        return [[one / (sum(row) ** 0.5 or 1) for one in row] for row in found]


async def assess(question: str, *passages: Passage, absent: tuple[str, ...] = (), embed: object = None) -> Assessment:
    return await Assessor().assess(question, passages, absent, embed)  # type: ignore[arg-type]


def test_confidence_grows_with_each_thing_that_speaks_for_the_best_passage() -> None:
    usual, other = confidence_of([passage("a"), passage("b", score=0.5)]), passage("b", score=0.5)
    assert usual is not None
    for better in (passage("a", similarity=0.8), passage("a", coverage=1.0), passage("a", score=0.7)):
        sure = confidence_of([better, other])
        assert sure is not None
        assert 0 < usual < sure < 1
    doubtful = confidence_of([passage("a"), other], absent=("SKU-1",))
    assert doubtful is not None
    assert doubtful < usual


def test_confidence_reads_the_score_of_retrieval_where_reranking_has_replaced_it() -> None:
    reranked = passage("a").model_copy(update={"score": 0.99, "retrieval_score": 0.6})
    assert confidence_of([reranked, passage("b", score=0.5)]) == confidence_of([passage("a"), passage("b", score=0.5)])


async def test_nobody_knows_where_the_passages_have_no_similarities() -> None:
    assert await assess("a pump", passage("a pump", similarity=None)) == Assessment(None, True)


async def test_without_passages_nothing_is_answerable() -> None:
    assert not (await assess("a pump")).answerable


async def test_what_no_document_names_is_not_answerable() -> None:
    found = await assess("What is the price of SKU-00001?", passage("SKU-5000 costs 9 euros."), absent=("SKU-00001",))
    assert (found.answerable, found.absent) == (False, ("SKU-00001",))
    assert decline(found=True, absent=found.absent) == "The documents found do not mention SKU-00001."


async def test_passages_that_are_far_from_the_question_do_not_answer_it() -> None:
    far = passage("bread", score=0.1, similarity=0.05, coverage=0.0)
    assert not (await assess("How is a pump repaired?", far, far)).answerable


@pytest.mark.parametrize(
    ("question", "answerable"),
    [
        ("How wide is PPR-9063?", True),  # near in meaning
        ("Who made PPR-9063?", False),
        ("Where is PPR-9063 kept?", True),  # in the same words
        ("PPR-9063", True),  # asks for all
        ("What does PPR-9063 mean?", True),
        ("Who made KX-1?", True),  # no passage is about it, so there is nothing to compare with
    ],
)
async def test_what_the_passage_about_a_named_thing_does_not_say_is_not_answerable(
    question: str, answerable: bool
) -> None:
    found = await assess(question, passage("Gaskets."), passage(PUMP), embed=Meaning("wide", "made"))
    assert found.answerable is answerable


async def test_a_name_is_left_out_of_the_comparison() -> None:
    meaning = Meaning("wide")
    await assess("Who made PPR-9063?", passage(PUMP), embed=meaning)
    assert meaning.asked
    assert not any("9063" in text for text in meaning.asked)


async def test_an_embedder_that_fails_or_is_late_decides_nothing() -> None:
    async def fails(_texts: Sequence[str]) -> list[list[float]]:
        raise Problem(ProblemType.STAGE_UNAVAILABLE, "gone")

    async def sleeps(_texts: Sequence[str]) -> list[list[float]]:
        await anyio.sleep_forever()
        return []

    assert (await assess("Who made PPR-9063?", passage(PUMP), embed=fails)).answerable
    assert (await Assessor(seconds=0).assess("Who made PPR-9063?", [passage(PUMP)], (), sleeps)).answerable
