"""reStructuredText, read with docutils: no file is included and nothing raw is passed on."""

from __future__ import annotations

import io
import re
from typing import Any, cast

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.outline import Outline
from services.scheduler.ingestion.parsing.rows import fill_spans, table_text

__all__ = ["parse"]

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "doctitle_xform": False,
    "halt_level": 6,  # never: a mistake in the markup costs its paragraph, not the document
    "report_level": 5,
    "input_encoding": "unicode",
    "line_length_limit": 1_000_000,
    "syntax_highlight": "none",
    "smart_quotes": False,
}
_SILENT = (nodes.Invisible, nodes.system_message, nodes.raw, nodes.image)
# Sphinx adds these to docutils. Directives keep their content, roles the words that a reader sees.
_SPHINX_DIRECTIVES = (
    "attribute class data describe envvar exception function glossary hlist method module note option "
    "productionlist rubric seealso tab tab-set versionadded versionchanged versionremoved deprecated "
    "confval py:attribute py:class py:data py:exception py:function py:method py:module"
)
_SPHINX_ROLES = (
    "abbr any attr class cmdoption command confval const data dfn doc download envvar exc file func guilabel "
    "kbd keyword mailheader makevar manpage menuselection meth mimetype mod newsgroup obj option pep program "
    "py:attr py:class py:const py:data py:exc py:func py:meth py:mod py:obj ref regexp rfc samp src term "
    "token var c:func c:macro c:member c:type"
)
_TARGET = re.compile(r"\s*<[^<>]*>\s*\Z")


def parse(source: Source) -> ParsedDocument:
    """Sections at titles; tables as rows; unknown markup stays as its source text."""
    text = decode(source.data)
    outline = Outline()
    _walk(_doctree(text), outline, level=0)
    sections = outline.sections() or (Section(text=text),)
    metadata = {"title": outline.title} if outline.title else {}
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata=metadata)


class _Content(Directive):
    """A Sphinx directive as docutils sees it: its arguments and its content are ordinary text."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = None

    def run(self) -> list[nodes.Node]:
        argument = " ".join(self.arguments)
        container = nodes.container()
        if argument:
            container += nodes.paragraph(argument, argument)
        body = "\n".join(line for line in self.content if not re.match(r":[\w-]+:", line))
        if body:
            self.state.nested_parse(self.content, self.content_offset, container)
        return [container]


def _role(
    _name: str, rawtext: str, text: str, _line: int, _inliner: Any, *_: Any, **__: Any
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    words = _TARGET.sub("", text) or text
    return [nodes.inline(rawtext, words.lstrip("~!"))], []


def _doctree(text: str) -> nodes.document:
    for name in _SPHINX_DIRECTIVES.split():
        directives.register_directive(name, _Content)
    for name in _SPHINX_ROLES.split():
        roles.register_local_role(name, cast("Any", _role))
    settings = {**_SETTINGS, "warning_stream": io.StringIO()}
    return publish_doctree(text, settings_overrides=settings)


def _walk(node: nodes.Element, outline: Outline, level: int) -> None:
    for child in node.children:
        if isinstance(child, nodes.section):
            _walk(child, outline, level + 1)
        elif isinstance(child, nodes.title) and level and isinstance(node, nodes.section):
            outline.heading(level, child.astext())
        elif isinstance(child, nodes.table):
            outline.add(_rows(child))
        elif isinstance(child, nodes.list_item):
            outline.add(f"- {_text(child)}")
        elif isinstance(child, nodes.system_message):
            outline.add(_unknown(child))
        elif isinstance(child, nodes.TextElement):
            outline.add(_text(child))
        elif isinstance(child, nodes.Element) and not isinstance(child, _SILENT):
            _walk(child, outline, level)


def _text(node: nodes.Element) -> str:
    return "" if isinstance(node, _SILENT) else node.astext()


def _rows(table: nodes.table) -> str:
    rows = [
        [(cell.astext(), 1 + cell.get("morecols", 0), 1 + cell.get("morerows", 0)) for cell in row.findall(nodes.entry)]
        for row in table.findall(nodes.row)
    ]
    header_rows = sum(len(head.children) for head in table.findall(nodes.thead))
    return table_text(fill_spans(rows, header_rows), header_rows)


def _unknown(message: nodes.system_message) -> str:
    """What docutils did not understand, from the copy that the message carries."""
    return "\n\n".join(block.astext() for block in message.findall(nodes.literal_block))
