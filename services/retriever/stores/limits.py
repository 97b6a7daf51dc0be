"""How far every store looks, so that all of them rank the same passages by the same numbers."""

from typing import Final

__all__ = ["COMMON_SECONDS", "COUNTED", "DEPTH", "MOST_TERMS", "SAMPLE", "SPOKEN"]

DEPTH: Final = 100
"""How far down each ranking a search goes at least. The same for every `top_k` that people ask for, so that fewer
passages are the beginning of more."""

MOST_TERMS: Final = 64
"""Terms of a question that are searched for."""

COUNTED: Final = 256
"""Passages with a term that are counted; what more have is common enough."""

COMMON_SECONDS: Final = 300.0
"""How long the frequency of a common form and the averages of a table count."""

SAMPLE: Final = 200
"""Passages that tell the average length and the languages."""
SPOKEN: Final = 0.02
"""Share of the sample in a language from which on questions are also read in it."""
