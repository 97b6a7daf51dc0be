"""Token vectors that are kept, and how exactly."""

import numpy as np
import pytest

from services.embedder.reranking.late_interaction import max_similarity
from services.embedder.reranking.token_cache import TokenCache, TokenVectors, pack_tokens


def unit_rows(rows: int, width: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def packed(rows: int) -> TokenVectors:
    return pack_tokens(unit_rows(rows, 64))


def test_one_byte_a_component_keeps_cosines() -> None:
    vectors = unit_rows(50, 384)
    codes, scales = pack_tokens(vectors)
    np.testing.assert_allclose((codes * scales[:, None]) @ vectors.T, vectors @ vectors.T, atol=0.01)


def test_the_score_is_the_mean_of_the_best_cosine_of_each_token_of_the_question() -> None:
    question = np.eye(4, dtype=np.float32)[:2]
    passage = np.array([[1, 0, 0, 0], [0, 0.6, 0.8, 0]], dtype=np.float32)
    assert max_similarity(question, pack_tokens(passage)) == pytest.approx((1 + 0.6) / 2, abs=0.01)


def test_a_text_without_tokens_is_similar_to_nothing() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    some = np.eye(4, dtype=np.float32)
    assert max_similarity(empty, pack_tokens(some)) == max_similarity(some, pack_tokens(empty)) == 0


def test_the_cache_keeps_to_its_bound_and_drops_what_was_not_asked_for_longest() -> None:
    cache = TokenCache(2 * packed(10).bytes)
    cache.put("a", packed(10))
    cache.put("b", packed(10))
    assert cache.get("a") is not None
    cache.put("c", packed(10))
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)
    assert cache.bytes == 2 * packed(10).bytes


def test_vectors_larger_than_the_bound_and_texts_put_twice_take_no_more_than_it() -> None:
    cache = TokenCache(packed(10).bytes)
    cache.put("a", packed(10))
    cache.put("a", packed(10))
    cache.put("long", packed(11))
    assert ("a" in cache, "long" in cache, cache.bytes) == (True, False, packed(10).bytes)
