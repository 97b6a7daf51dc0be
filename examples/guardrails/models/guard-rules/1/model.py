"""Rules that judge a text: instructions to the assistant itself, secrets, personal data. Python, so they are easy to
change; the predictor runs them with SLUICE_ALLOW_MODEL_CODE=true."""

import re
from pathlib import Path

RULES = (
    (
        "injection",
        re.compile(
            r"(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,3}?(?:instructions?|rules?|prompts?|directions?)"
            r"|(?:reveal|show|print|repeat)\s+(?:\w+\s+){0,3}?(?:system|hidden|secret)\s+(?:prompt|instructions?)"
            r"|\b(?:you are now|act as|pretend to be)\b.{0,40}\b(?:without|no)\b.{0,20}"
            r"\b(?:limits?|rules?|restrictions?)"
            r"|<\|(?:im_start|im_end|system|user|assistant)\|>",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    (
        "secret",
        re.compile(
            r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|sk-[A-Za-z0-9_-]{20,})\b|BEGIN [A-Z ]*PRIVATE KEY"
        ),
    ),
    (
        "personal",
        re.compile(
            r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"
            r"|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
            r"|(?<![\w.-])\+?\d(?:[ ().-]{0,2}\d){8,18}(?![\w-])"
        ),
    ),
)

LONGEST = 10_000
"""Characters that are looked at."""


class Model:
    def load(self, folder: Path) -> None:
        """Nothing is read: the rules are above."""

    def predict(self, text: list[str]) -> dict[str, list[str]]:
        return {"label": [self._label(each[:LONGEST]) for each in text]}

    @staticmethod
    def _label(text: str) -> str:
        return next((label for label, pattern in RULES if pattern.search(text)), "fine")
