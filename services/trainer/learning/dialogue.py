"""Rows as tokens: the prompt as the generator makes it, and the answer as the model would write it."""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.trainer.data.prompted import PromptedRow
from shared.contracts.problems import Problem, ProblemType
from shared.prompting.builder import PromptBuilder
from shared.prompting.prompt import Prompt, PromptPassage
from shared.prompting.sanitizer import Sanitizer
from shared.prompting.templating import TemplateError, Templates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Dialogue", "DialogueEncoder", "cite"]

_CITATIONS = re.compile(r"\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\]")

PROBE: Final = "Sluice"
"""An answer by which a chat template shows how it ends one."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Tokens of a prompt, and of an answer to it with the mark of its end."""

    prompt: "array[int]"
    answer: "array[int]"


class DialogueEncoder:
    """Makes dialogues of `window` tokens at most, with the model's own tokenizer and chat template.

    Raises Problem INVALID_REQUEST where the model has no chat template, or a prompt template cannot be used.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, window: int, templates: Path | None) -> None:
        if not tokenizer.chat_template:
            raise _invalid("The model has no chat template: take one that was trained to follow instructions.")
        try:
            made = Templates(templates)
        except TemplateError as error:
            raise _invalid(str(error)) from error
        self._tokenizer: Any = tokenizer
        self._window = window
        special = [one for one in tokenizer.all_special_tokens if len(one) > 1]
        self._sanitizer = Sanitizer(made.tags, special)
        self._builder = PromptBuilder(made, count=self._count, window=window, special=special)
        self._end = self._end_of_turn()

    def encode(self, row: PromptedRow, *texts: str) -> list[Dialogue] | None:
        """Each text as the answer to the row's question, after the same prompt. None where the answers, the question
        and one of the passages that answer it do not fit into the window."""
        answers = [self._tokens(self._sanitizer.speech(cite(text, row.cited)) + self._end) for text in texts]
        prompt = self._prompt(row, max(map(len, answers)))
        return None if prompt is None else [Dialogue(prompt, answer) for answer in answers]

    def _prompt(self, row: PromptedRow, reserve: int) -> "array[int] | None":
        if reserve >= self._window:
            return None
        passages = tuple(
            PromptPassage(index=number, text=text, document=source, document_id=source, position=number)
            for number, (text, source) in enumerate(zip(row.passages, row.sources, strict=True), 1)
        )
        try:
            built = self._builder.build(Prompt(question=row.question, passages=passages), reserve=reserve)
        except Problem as problem:
            if problem.kind is ProblemType.CONTEXT_EXCEEDED:
                return None
            raise
        if row.cited and not set(row.cited) - set(built.context.dropped):
            return None
        messages = [one.model_dump(exclude_none=True) for one in built.messages]
        tokens = self._tokens(self._render(messages))
        return tokens if len(tokens) + reserve <= self._window else None

    def _render(self, messages: Sequence[dict[str, Any]]) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a model's template may raise anything
            raise _invalid(f"The model's chat template does not take the prompt: {error}") from error

    def _end_of_turn(self) -> str:
        """What the chat template writes after an answer."""
        turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": PROBE}]
        try:
            whole = str(self._tokenizer.apply_chat_template(turns, tokenize=False))
        except Exception:  # noqa: BLE001  (as above)
            whole = ""
        return whole.rpartition(PROBE)[2].strip() or str(self._tokenizer.eos_token or "")

    def _count(self, text: str) -> int:
        return len(self._tokens(text))

    def _tokens(self, text: str) -> "array[int]":
        # A list takes nine times the memory, and all rows are held.
        return array("i", self._tokenizer.encode(text, add_special_tokens=False))


def cite(text: str, cited: Sequence[int]) -> str:
    """The answer with the citations of these passages at its end. Numbers in it were given to other passages: a prompt
    counts its own."""
    plain = _CITATIONS.sub("", text).strip()
    return f"{plain} {''.join(f'[{number}]' for number in cited)}" if cited else plain


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Training cannot begin. {detail}")
