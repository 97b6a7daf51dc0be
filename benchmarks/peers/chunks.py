"""How documents are cut, the same for every contender as far as their splitters go."""

__all__ = ["EMBED_BATCH", "OVERLAP_TOKENS", "OVERLAP_WORDS", "TOKENS", "WORDS"]

TOKENS, OVERLAP_TOKENS = 254, 32
"""Of the model's tokenizer, without its two marks."""

WORDS, OVERLAP_WORDS = 150, 20
"""For Haystack, which cuts by words."""

EMBED_BATCH = 32
