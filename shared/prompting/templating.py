"""The templates of the prompts: files that a user can replace, one by one."""

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, TemplateSyntaxError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["Source", "TemplateError", "TemplateName", "Templates", "Turn"]

log = logging.getLogger(__name__)

SHIPPED: Final = Path(__file__).parent / "templates"
SUFFIX: Final = ".jinja"

_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9_-]*)")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


class TemplateName(StrEnum):
    """The templates there are; the head of each shipped file says what it is given."""

    ANSWER_SYSTEM = "answer_system"
    ANSWER_USER = "answer_user"
    CONDENSE_SYSTEM = "condense_system"
    CONDENSE_USER = "condense_user"
    PARAPHRASE_SYSTEM = "paraphrase_system"
    PASSAGE_SYSTEM = "passage_system"


class TemplateError(ValueError):
    """A template cannot be used; the message names the file and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage as a template shows it."""

    index: int
    document: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn of the conversation as a template shows it."""

    role: str
    text: str


_SOURCE = Source(index=1, document="canary.md", text="The canary sings.")
_TURN = Turn(role="user", text="Who sings?")

_SAMPLES: Final[dict[TemplateName, tuple[dict[str, Any], ...]]] = {
    TemplateName.ANSWER_SYSTEM: ({"instructions": ""}, {"instructions": "Be kind."}),
    TemplateName.ANSWER_USER: (
        {"question": "Who sings?", "sources": []},
        {"question": "Who sings?", "sources": [_SOURCE, _SOURCE]},
    ),
    TemplateName.CONDENSE_SYSTEM: ({},),
    TemplateName.CONDENSE_USER: ({"turns": [_TURN, _TURN], "question": "Why?"},),
    TemplateName.PARAPHRASE_SYSTEM: ({"count": 1}, {"count": 2}),
    TemplateName.PASSAGE_SYSTEM: ({},),
}
"""What each template is tried with at the start."""


class Templates:
    """The shipped templates, each replaced by the file of the same name in `folder`, where there is one.

    Jinja2 in its sandbox, nothing escaped. Every template is compiled and rendered once with sample values here, so
    that one that cannot work raises TemplateError now and not at the first question.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folders = [SHIPPED] if folder is None else [folder, SHIPPED]
        if folder is not None:
            _check_folder(folder)
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(one) for one in folders]),
            undefined=StrictUndefined,
            autoescape=False,  # the result is a prompt, not HTML
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates: dict[TemplateName, Template] = {name: self._load(name) for name in TemplateName}

    @property
    def tags(self) -> frozenset[str]:
        """Names of the tags that the template of an answer's user message writes: what marks text as a source."""
        assert self._environment.loader is not None
        source, _, _ = self._environment.loader.get_source(self._environment, TemplateName.ANSWER_USER + SUFFIX)
        return frozenset(_TAG.findall(_COMMENT.sub("", source)))

    def render(self, name: TemplateName, **variables: Any) -> str:
        """The text, without white space around it. Raises TemplateError."""
        try:
            return self._templates[name].render(variables).strip()
        except Exception as error:  # a template may call and compute anything
            raise _explained(error, self._templates[name].filename) from error

    def _load(self, name: TemplateName) -> Template:
        try:
            template = self._environment.get_template(name + SUFFIX)
            for sample in _SAMPLES[name]:
                template.render(sample)
        except (JinjaError, OSError, UnicodeDecodeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _explained(error, name + SUFFIX) from error
        return template


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise TemplateError(f"{folder}: there is no such folder of templates.")
    names = [name for name in TemplateName if (folder / f"{name}{SUFFIX}").is_file()]
    if not names:
        known = ", ".join(name + SUFFIX for name in TemplateName)
        raise TemplateError(f"{folder}: holds none of the templates {known}.")
    log.info("templates replaced", extra={"templates": names, "folder": str(folder)})


def _explained(error: Exception, name: str | None) -> TemplateError:
    """With the innermost place in a template that the error came from."""
    file, line = name or "?", 0
    if isinstance(error, TemplateSyntaxError):
        file, line = error.filename or file, error.lineno
    else:
        trace = error.__traceback__
        while trace is not None:
            # Jinja2 rewrites tracebacks to the lines of the template.
            if trace.tb_frame.f_code.co_filename.endswith(SUFFIX):
                file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
            trace = trace.tb_next
    where = f"{file}, line {line}" if line else file
    return TemplateError(f"{where}: {type(error).__name__}: {error}")
