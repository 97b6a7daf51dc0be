"""What a sweep has found: its outputs, its trials as lines, and what it says."""

import json
from typing import Final

from pydantic import JsonValue

from services.scheduler.sweeps.state import SweepState, SweepTrial
from shared.contracts.jobs import SweepSpec

__all__ = ["WORDS", "as_lines", "outputs"]


WORDS: Final = {"ndcg": "nDCG@10", "perplexity": "perplexity", "accuracy": "preference accuracy"}
"""What measures are called."""


def outputs(spec: SweepSpec, state: SweepState, chosen: SweepTrial) -> dict[str, JsonValue]:
    """`better` is whether the best trial is another one than the default, and does better on the test rows too, which
    no trial was chosen by."""
    default, measure = state.trials[0], spec.measure
    found: dict[str, JsonValue] = {
        "model": chosen.model,
        "hash": chosen.hash,
        "job": chosen.job,
        f"{measure}_validation": chosen.score,
        f"{measure}_validation_default": default.score,
        "trials": len(state.trials),
        "failed": state.failed,
        "pruned": state.pruned,
        "message": _said(spec, default, chosen) + (f" Pruned: {state.pruned:,}." if state.pruned else ""),
    }
    if chosen.tested is not None and default.tested is not None:
        gain = (chosen.tested - default.tested) * (-1 if spec.minimizes else 1)
        found |= {
            "better": chosen.job != default.job and gain > 0,
            f"{measure}_after": chosen.tested,
            f"{measure}_after_default": default.tested,
        }
    return found


def as_lines(state: SweepState) -> bytes:
    """JSON lines, one a trial in the order in which they began."""
    lines = []
    for number, trial in enumerate(state.trials, 1):
        line = {
            "trial": number,
            "state": trial.state,
            **trial.model_dump(mode="json", exclude_none=True, exclude={"ended"}),
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def _said(spec: SweepSpec, default: SweepTrial, chosen: SweepTrial) -> str:
    if chosen.job == default.job:
        return "No trial was better than the default on the validation rows."
    said = f"Best on the validation rows: {chosen.setting}, {WORDS[spec.measure]} {chosen.score:.3f} "
    said += f"against {default.score:.3f}"
    if chosen.tested is None or default.tested is None:
        return f"{said}. There are no test rows to check it on."
    return f"{said}; on the test rows {chosen.tested:.3f} against {default.tested:.3f}."
