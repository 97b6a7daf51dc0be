"""The inputs of a transformer: text that can be encoded, and padded rows of tokens by sentence-transformers."""

from typing import TYPE_CHECKING, Any

from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    import torch

__all__ = ["encodable", "lengths_of", "rows_of"]


def encodable(text: str) -> str:
    """The text with `?` for lone surrogates, which break tokenizers and JSON."""
    return text.encode("utf-8", "replace").decode()


def lengths_of(features: dict[str, Any], rows: int) -> list[int]:
    """Tokens of each row without the padding. Raises Problem STAGE_FAILED for a model whose inputs are no such rows."""
    mask = features.get("attention_mask")
    if mask is None or mask.ndim != 2 or len(mask) != rows:
        raise Problem(
            ProblemType.STAGE_FAILED, "This model's inputs are not padded rows of tokens, which Sluice needs."
        )
    return [int(length) for length in mask.sum(1)]


def rows_of(features: dict[str, Any], rows: list[int], longest: int, *, left: bool) -> dict[str, Any]:
    """The features of some rows, with the padding that only longer rows needed cut off."""
    count, width = features["attention_mask"].shape
    columns = slice(width - longest, None) if left else slice(longest)

    def pick(value: "torch.Tensor | Any") -> Any:
        shape = getattr(value, "shape", ())
        if tuple(shape[:2]) == (count, width):
            return value[rows][:, columns]
        return value[rows] if shape and shape[0] == count else value

    return {name: pick(value) for name, value in features.items()}
