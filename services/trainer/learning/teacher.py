"""A teacher: a cross-encoder whose scores of questions with passages a model learns.

The pairs are scored once, before the first step. All processes share them. What is scored is kept on the way, so that
another try goes on from there: of the same pairs it has the same scores, to the bit on a CPU.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from sentence_transformers.cross_encoder import CrossEncoder

from services.trainer.learning.task import Interrupted, Task
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Pair", "score_pairs"]

Pair = tuple[str, str]
"""A question and a passage."""

BLOCK: Final = 64
"""Pairs that a process scores between two looks at whether it shall end."""

BATCH: Final = 32
INTERVAL: Final = 30.0
"""Seconds between two times that scores are kept."""

DIGEST: Final = 32
"""Bytes of a SHA-256."""


def score_pairs(task: Task[Any], pairs: Sequence[Pair], device: torch.device) -> Mapping[Pair, float]:
    """The logit of the task's teacher for each of the pairs, each of which is scored once.

    `device` is that of this process's training; where there are several processes they are connected. All return the
    same. Raises Problem INVALID_REQUEST for a teacher that does not score pairs, TRAINING_FAILED where a score is not a
    number, and Interrupted.
    """
    assert task.teacher is not None
    unique = list(dict.fromkeys(pairs))
    scores = _Scores(task, unique, device)
    if len(scores) < len(unique):
        _fill(task, scores, unique, device)
    return dict(zip(unique, scores.values.tolist(), strict=True))


class _Scores:
    """Scores of the first of the pairs, the same in all processes. `values` are float32, on the CPU."""

    def __init__(self, task: Task[Any], pairs: Sequence[Pair], device: torch.device) -> None:
        self._task = task
        self._device = device
        self._digest = _digest(task, pairs)
        self._kept = -float("inf")
        self.values = self._agreed(self._known(len(pairs)) if task.world.leads else torch.empty(0))

    def __len__(self) -> int:
        return len(self.values)

    def add(self, own: torch.Tensor, count: int, *, stopped: bool) -> bool:
        """Take in the scores of a round: `own` is this process's block, and `count` how many of all blocks count.

        Returns whether any process was asked to end.
        """
        block = torch.zeros(BLOCK + 1, device=self._device)
        block[: len(own)] = own.to(self._device)
        block[BLOCK] = float(stopped)
        blocks = [block]
        if self._task.world.size > 1:
            blocks = [torch.empty_like(block) for _ in range(self._task.world.size)]
            torch.distributed.all_gather(blocks, block)
        found = torch.cat([one[:BLOCK] for one in blocks]).cpu()[:count]
        if not bool(found.isfinite().all()):
            raise Problem(
                ProblemType.TRAINING_FAILED,
                "A score of the teacher is not a number: its weights are broken. Name another `teacher`.",
            )
        self.values = torch.cat([self.values, found])
        return any(bool(one[BLOCK]) for one in blocks)

    def keep(self, *, now: bool) -> None:
        """Have the scores stored, if it is time to."""
        if self._task.world.leads and (now or time.monotonic() - self._kept >= INTERVAL):
            self._task.save_scores(self._digest + self.values.numpy().astype("<f4").tobytes())
            self._kept = time.monotonic()

    def _known(self, count: int) -> torch.Tensor:
        """What an earlier try kept; nothing where that was of other pairs or of another teacher."""
        content = self._task.load_scores() or b""
        size = len(content) - DIGEST
        if content[:DIGEST] != self._digest or size % 4 or not 0 < size // 4 <= count:
            return torch.empty(0)
        return torch.frombuffer(bytearray(content[DIGEST:]), dtype=torch.float32)

    def _agreed(self, known: torch.Tensor) -> torch.Tensor:
        """What the leading process knows."""
        if self._task.world.size == 1:
            return known
        count = torch.tensor([len(known)], device=self._device)
        torch.distributed.broadcast(count, src=0)
        values = known.to(self._device) if self._task.world.leads else torch.empty(int(count), device=self._device)
        if len(values):
            torch.distributed.broadcast(values, src=0)
        return values.cpu()


def _fill(task: Task[Any], scores: _Scores, pairs: Sequence[Pair], device: torch.device) -> None:
    assert task.teacher is not None
    teacher = _load(task.teacher, device)
    task.reporter.say(f"the teacher scores {len(pairs):,} pairs of a question and a passage")
    task.reporter.progress(len(scores), len(pairs))
    while len(scores) < len(pairs):
        first = len(scores) + task.world.rank * BLOCK
        count = min(task.world.size * BLOCK, len(pairs) - len(scores))
        stopped = scores.add(_logits(teacher, pairs[first : first + BLOCK]), count, stopped=task.stop.is_set())
        scores.keep(now=stopped or len(scores) == len(pairs))
        task.reporter.progress(len(scores), len(pairs))
        task.reporter.say(f"the teacher has scored {len(scores):,} of {len(pairs):,} pairs")
        if stopped:
            raise Interrupted


def _logits(teacher: CrossEncoder, pairs: Sequence[Pair]) -> torch.Tensor:
    if not pairs:
        return torch.empty(0)
    found: torch.Tensor = teacher.predict(
        list(pairs),
        batch_size=BATCH,
        show_progress_bar=False,
        activation_fn=torch.nn.Identity(),
        convert_to_tensor=True,
    )
    return found.float()


def _load(folder: Path, device: torch.device) -> CrossEncoder:
    """Raises Problem INVALID_REQUEST where it is not a cross-encoder with one score a pair."""
    if not _scores_pairs(folder):
        raise _invalid("The `teacher` does not score pairs of texts: name a cross-encoder, as a reranker is.")
    try:
        teacher = CrossEncoder(
            str(folder),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _invalid(f"The `teacher` cannot be loaded: {error}") from error
    if teacher.num_labels != 1:
        raise _invalid(f"The `teacher` gives {teacher.num_labels} values a pair: name a reranker, which gives one.")
    teacher.eval()
    return teacher


def _scores_pairs(folder: Path) -> bool:
    """Whether the folder's model has a head for scores. The library gives one without a new head, of chance."""
    if (folder / "modules.json").exists():
        # Models of before this file names its type embed.
        return _read(folder / "config_sentence_transformers.json").get("model_type") == "CrossEncoder"
    architectures = _read(folder / "config.json").get("architectures") or ()
    return any(str(name).endswith(("ForSequenceClassification", "ForCausalLM")) for name in architectures)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(task: Task[Any], pairs: Sequence[Pair]) -> bytes:
    """Of what the scores depend on."""
    digest = hashlib.sha256(json.dumps([task.spec.teacher, task.world.size]).encode())
    for pair in pairs:
        digest.update(json.dumps(pair).encode())
    return digest.digest()


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Training cannot begin. {detail}")
