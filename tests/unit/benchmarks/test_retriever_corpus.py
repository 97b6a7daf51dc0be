"""The made-up passages that the retriever is measured with, and what is true of them."""

import numpy as np

from benchmarks.retriever.corpus import PASSAGES, Corpus
from benchmarks.retriever.truth import nearest


def test_the_same_seed_makes_the_same_passages() -> None:
    first, again = (Corpus(100).documents(Corpus(100).block(0)) for _ in range(2))

    assert [document.id for document in first] == [f"d{number}" for number in range(100 // PASSAGES)]
    for document, other in zip(first, again, strict=True):
        assert [chunk.text for chunk in document.chunks] == [chunk.text for chunk in other.chunks]
        assert all(np.array_equal(a.vector, b.vector) for a, b in zip(document.chunks, other.chunks, strict=True))


def test_the_truth_is_what_comparing_all_vectors_finds() -> None:
    corpus = Corpus(12_000)  # more than one block
    questions = corpus.questions(3)
    vectors = np.concatenate([block.vectors for block in corpus.blocks(words=False)])
    permille = np.concatenate([block.permille for block in corpus.blocks(words=False)])

    truth = nearest(corpus, questions, [1000, 10], 40)

    for limit, found in truth.items():
        for question, ids in zip(questions, found, strict=True):
            near = np.where(permille < limit, vectors @ question.vector, -np.inf)
            best = np.argsort(-near)[: min(40, int((permille < limit).sum()))]
            assert ids == [f"d{row // PASSAGES}:{row % PASSAGES}" for row in best]
