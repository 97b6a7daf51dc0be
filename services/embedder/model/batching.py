"""Which texts to compute together: the cut of a list of token counts into padded batches."""

from collections.abc import Sequence

__all__ = ["plan_batches"]


def plan_batches(lengths: Sequence[int], *, token_budget: int, max_rows: int, padding_limit: int) -> list[list[int]]:
    """Cut rows into batches of similar length, longest first; each row is in exactly one batch.

    A batch is computed as a rectangle of rows x its longest row. Every batch keeps to
    `rows * longest <= token_budget` and `rows <= max_rows`; a row longer than the budget goes alone.
    A batch is closed, too, once it would carry more than `padding_limit` tokens of padding: that limit is
    what one more call of the model costs, so padding never costs more than twice the best cut.
    The longest batch comes first, so that memory that is too small shows at once.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = padding = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        rows = len(batch) + 1
        fits = rows <= max_rows and rows * longest <= token_budget
        if batch and fits and padding + longest - length <= padding_limit:
            batch.append(row)
            padding += longest - length
            continue
        batch = [row]
        batches.append(batch)
        longest, padding = length, 0
    return batches
