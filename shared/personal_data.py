"""Patterns of personal data in texts, by kind. They find what has a form; a name has none."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

__all__ = ["PersonalData", "without"]


class PersonalData(StrEnum):
    """E-mail addresses, bank accounts, and numbers of 9 to 19 digits, such as telephones and cards."""

    EMAIL = "email"
    IBAN = "iban"
    NUMBER = "number"


PATTERNS: Final[Mapping[PersonalData, re.Pattern[str]]] = {
    PersonalData.EMAIL: re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
    PersonalData.IBAN: re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    PersonalData.NUMBER: re.compile(r"(?<![\w.-])\+?\d(?:[ ().-]{0,2}\d){8,18}(?![\w-])"),
}


def without(text: str, kinds: Iterable[PersonalData] = PersonalData) -> str:
    """The text with data of these kinds replaced by the name of its kind in brackets."""
    wanted = set(kinds)
    for kind in PersonalData:
        if kind in wanted:
            text = PATTERNS[kind].sub(f"[{kind.value}]", text)
    return text
