"""Small real files of every kind that is read, and what is put into them to do harm."""

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any, Final

import docx
import pptx
from hypothesis import strategies as st
from pptx.util import Inches
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.fuzz.values import TOKENS, damaged
from tests.harness.document_files import epub, msg, ods, odt, xlsx, zipped

__all__ = ["FILES", "PACKED", "files"]

TEXT: Final = (
    "The blue lamp of Sundsholm was lit in 1911.\n\nWho built it? Ole Brandt, a smith from the west coast - ünïcode.\n"
)


def _pdf(*, compressed: bool, encrypted: bool = False) -> bytes:
    buffer = io.BytesIO()
    encryption = StandardEncryption("", ownerPassword="owner", strength=40) if encrypted else None
    canvas = Canvas(buffer, pageCompression=int(compressed), encrypt=encryption, invariant=1)
    canvas.setTitle("Lamps")
    canvas.bookmarkPage("start")
    for page in range(3):
        canvas.setFont("Helvetica" if page else "Times-Roman", 12)
        for row, line in enumerate(TEXT.splitlines()):
            canvas.drawString(72, 720 - 14 * row, f"{page} {line}")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _docx() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Lamps"
    document.add_heading("Lamps", 0)
    document.add_heading("Blue", 1)
    document.add_paragraph(TEXT)
    document.add_paragraph("an item", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row in table.rows:
        for cell in row.cells:
            cell.text = "cell"
    table.cell(0, 0).add_table(1, 1).cell(0, 0).text = "within"
    return _saved(document)


def _pptx() -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Lamps"
    slide.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1)).text_frame.text = TEXT
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(3), Inches(1)).table
    table.cell(0, 0).text = "cell"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "in a group"
    slide.notes_slide.notes_text_frame.text = "a note"
    return _saved(presentation)


def _eml() -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "a@example.org", "Lämps"
    message.set_content(TEXT, cte="quoted-printable")
    message.add_alternative(f"<p>{TEXT}</p>", subtype="html")
    message.add_attachment(TEXT.encode(), maintype="text", subtype="plain", filename="lamp.txt")
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"edge{number}")
    return message.as_bytes()


RECORDS: Final = [
    {"name": f"lamp {n}", "year": 1900 + n, "parts": [{"a": 1, "b": [1, 2]}], "none": None} for n in range(4)
]
FILES: Final[dict[str, bytes]] = {
    "a.pdf": _pdf(compressed=False),
    "compressed.pdf": _pdf(compressed=True),
    "locked.pdf": _pdf(compressed=True, encrypted=True),
    "a.docx": _docx(),
    "a.pptx": _pptx(),
    "a.html": (
        "<!doctype html><html><head><meta charset=utf-8><title>Lamps</title></head><body><nav>skip</nav><main>"
        f"<h1>Lamps</h1><p>{TEXT}</p><table><tr><td>a<td>b</tr></table><pre>x\n y</pre><ul><li>one<li>two</ul></main>"
    ).encode(),
    "a.md": f"---\ntitle: Lamps\n---\n# Lamps\n\n{TEXT}\nBlue\n----\n\n```py\n# code\n```\n\n- one\n- two\n".encode(),
    "a.rst": (
        f"Lamps\n=====\n\n{TEXT}\n.. note:: seen\n\n.. csv-table::\n\n   a,b\n   c,d\n\n+---+---+\n"
        "| a | b |\n+---+---+\n\n:ref:`lamp <x>` |x|\n\n.. |x| replace:: y\n\n- one\n\n  - two\n"
    ).encode(),
    "a.csv": b'name,year\nblue,1911\n"a, b",1912\n',
    "a.tsv": b"name\tyear\nblue\t1911\n",
    "a.json": json.dumps(RECORDS).encode(),
    "a.jsonl": "\n".join(map(json.dumps, RECORDS)).encode(),
    "a.txt": TEXT.encode(),
    "latin.txt": TEXT.encode("latin-1"),
    "wide.txt": TEXT.encode("utf-16"),
    "a.py": b"def lamp():\n    return 'blue'\n",
    "a.xlsx": xlsx(
        {"Lamps": [["Report"], [], ["name", "year"], ["blue", 1911], ["", 1912]]}, merged=[(3, 0, 4, 0, "blue")]
    ),
    "a.ods": ods([["name", "year"], ["blue", "1911"]]),
    "a.odt": odt(
        f'<text:h text:outline-level="1">Lamps</text:h><text:p>{TEXT}<text:s text:c="3"/></text:p><table:table>'
        '<table:table-row><table:table-cell table:number-columns-spanned="2"><text:p>cell</text:p></table:table-cell>'
        "</table:table-row></table:table>"
    ),
    "a.epub": epub({"one.xhtml": f"<h1>Lamps</h1><p>{TEXT}</p>", "two.xhtml": "<p>two</p>"}, title="Lamps"),
    "a.zip": zipped({"a.md": f"# Lamps\n\n{TEXT}", "in.zip": zipped({"b.txt": TEXT}), "c.png": b"\x89PNG\0"}),
    "a.eml": _eml(),
    "a.msg": msg({0x0037: "Lamps", 0x1000: TEXT}, attachments=[("a.md", TEXT.encode())]),
    "a.rtf": b"{\\rtf1\\ansi{\\info{\\title Lamps}}Blue lamp\\'e9 \\u8364?\\par"
    b"\\trowd\\cellx9 a\\cell b\\cell\\row\\pard end}",
    "a.ipynb": json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "source": ["# Lamps\n", TEXT]},
                {"cell_type": "code", "source": "lamp()", "outputs": [{"data": {"text/plain": "blue"}}]},
            ]
        }
    ).encode(),
    "a.txt.gz": gzip.compress(TEXT.encode(), mtime=0),
    "README": TEXT.encode(),
}

PACKED: Final = (".docx", ".pptx", ".xlsx", ".ods", ".odt", ".epub", ".zip")
"""Suffixes of files that are zip archives."""

PDF_TOKENS: Final = (
    *(
        b"/Kids [3 0 R]",
        b"/Kids [1 0 R 2 0 R]",
        b"/Parent 1 0 R",
        b"/Count 999999999",
        b"/Count -1",
        b"/Length 999999999",
    ),
    *(
        b"/Length 1 0 R",
        b"/Filter [/FlateDecode /FlateDecode]",
        b"/Filter /LZWDecode",
        b"/Filter /ASCII85Decode",
        b"/Prev 0",
    ),
    *(
        b"/Filter /ASCIIHexDecode",
        b"/Filter /RunLengthDecode",
        b"/Filter /DCTDecode",
        b"/Filter [" + b"/FlateDecode " * 500 + b"]",
    ),
    *(
        b"/Encrypt 1 0 R",
        b"/Type /ObjStm /N 999999999 /First 0",
        b"/ToUnicode 4 0 R",
        b"/Contents 3 0 R",
        b"/Root 9 0 R",
    ),
    *(
        b"<<" * 2000,
        b"[" * 5000,
        b"(" * 5000,
        b"<",
        b"<48656c6c6f",
        b"endobj",
        b"endstream",
        b"stream\r",
        b"xref",
        b"startxref\n0",
    ),
    *(
        b"trailer << /Root 1 0 R /Prev 9 >>",
        b"BT /F1 1e99 Tf",
        b"1e400 0 0 1 0 0 cm",
        b"q " * 5000,
        b"BI /W 9 ID",
        b"0 0 R",
    ),
    *(
        b"99999999999 0 R",
        b"-1 0 R",
        b"/DecodeParms << /Predictor 15 /Columns 999999999 >>",
        b"/W [0 0 0]",
        b"/W [1 9 99]",
    ),
    *(
        b"begincmap 1 beginbfrange <0000> <FFFFFFFF> <0000> endbfrange",
        b"/Encoding /Identity-H",
        b"/Differences [0 /a 9e9 /b]",
    ),
)
MARKUP_TOKENS: Final = (
    *(
        b"<div>" * 3000,
        b"<table>" * 300,
        b"<b>" * 500,
        b"</",
        b"<",
        b"&#x110000;",
        b"&#55296;",
        b"&#0;",
        b"&lt",
        b"<!--",
        b"]]>",
    ),
    *(
        b"<![CDATA[",
        b'<?xml version="1.0" encoding="utf-16"?>',
        b"<meta charset=utf-7>",
        b"<meta charset=idna>",
        b"<pre>",
        b"<td>",
    ),
    *(
        b"<meta charset=hex>",
        b"<meta charset=" + b"x" * 300 + b">",
        b"<svg>",
        b"<textarea>",
        b"<plaintext>",
        b"<h7>",
        b"<br>" * 999,
    ),
    *(
        b'<!DOCTYPE a [<!ENTITY e "' + b"x" * 99 + b'">]>',
        b"&e;" * 99,
        b'<a:b xmlns:a="',
        b"<p hidden>",
        b"<title>",
        b"<main>",
    ),
)
RST_TOKENS: Final = (
    *(
        b".. include:: /etc/passwd\n\n",
        b".. raw:: html\n   :file: /etc/passwd\n\n",
        b".. |x| replace:: |x|\n\n",
        b"|x|" * 99,
    ),
    *(
        b".. contents::\n\n",
        b".. sectnum::\n\n",
        b".. role:: x(raw)\n   :format: html\n\n",
        b".. unicode:: 0x110000\n\n",
        b"``",
    ),
    *(
        b".. list-table::\n   :widths: 0 0\n\n",
        b".. csv-table::\n   :url: file:///etc/passwd\n\n",
        b"+--+\n|  |\n+==+\n",
        b"=  =\n",
    ),
    *(
        b".. math::\n\n   \\frac{",
        b".. figure:: x\n   :width: 9e9\n\n",
        b".. date:: %\n\n",
        b"[#]_ [1]_ [*]_ ",
        b"`a <b_>`__ ",
        b"*" * 999,
    ),
    *(
        b".. class::\n\n",
        b".. default-role:: x\n\n",
        b".. meta::\n   :a b:\n\n",
        b".. parsed-literal::\n\n",
        b"\n====\n",
        b"\n----\n",
    ),
    *(
        b".. replace:: x\n\n",
        b"   ",
        b"\n" + b" " * 200 + b"- x",
        b":a: b\n",
        b"__ x\n",
        b"_`",
        b"-a  b\n",
        b">>> x\n",
        b"| x\n",
    ),
)
TEXT_TOKENS: Final = (
    *TOKENS,
    b"# " * 99,
    b"\n---\n",
    b"```\n",
    b"\n\n\n",
    b"," * 3000,
    b'"' * 99,
    b";" * 9,
    b"{" * 3000,
    b"[" * 9000,
)


def _tokens(name: str) -> tuple[bytes, ...]:
    if name.endswith(".pdf"):
        return PDF_TOKENS + TOKENS
    if name.endswith((".html", *PACKED)):
        return MARKUP_TOKENS + TOKENS
    return (RST_TOKENS if name.endswith(".rst") else ()) + TEXT_TOKENS


@st.composite
def _repacked(draw: Callable[[Any], Any], data: bytes) -> bytes:
    """An Office file whose parts were damaged, swapped, left out, doubled or blown up, packed properly again."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        parts = [(name, package.read(name)) for name in package.namelist()]
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(parts))
        name, content = parts[at]
        match chance.randrange(8):
            case 0 | 1 | 2:
                parts[at] = name, draw(damaged(content, tokens=MARKUP_TOKENS))
            case 3:
                other = chance.randrange(len(parts))
                parts[at], parts[other] = (name, parts[other][1]), (parts[other][0], content)
            case 4 if len(parts) > 1:
                del parts[at]
            case 5:
                parts.append((chance.choice([name, name.upper(), f"../{name}", "", "x" * 300, "word/\0"]), content))
            case 6:
                parts[at] = name, _nested(content, chance.choice([200, 3000]))
            case _:
                parts[at] = name, content + b"<!-- " + b"x" * chance.choice([10**5, 10**7]) + b" -->"
    return _packed(parts)


def _nested(xml: bytes, levels: int) -> bytes:
    """Wrap what is in the body of a part into so many tables, or into itself."""
    for tag in (b"w:p", b"p:sp", b"a:p"):
        start, end = xml.find(b"<" + tag + b">"), xml.rfind(b"</" + tag + b">")
        if 0 <= start < end:
            opened = {b"w:p": b"<w:tbl><w:tr><w:tc>", b"p:sp": b"<p:grpSp>", b"a:p": b"<a:p>"}[tag]
            closed = {b"w:p": b"</w:tc></w:tr></w:tbl>", b"p:sp": b"</p:grpSp>", b"a:p": b"</a:p>"}[tag]
            return (
                xml[:start]
                + opened * levels
                + xml[start:end]
                + b"</"
                + tag
                + b">"
                + closed * levels
                + xml[end + len(tag) + 3 :]
            )
    return xml


def _packed(parts: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts:
            package.writestr(zipfile.ZipInfo(name or "x", (2026, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


@st.composite
def _misdeclared(draw: Callable[[Any], Any], data: bytes) -> bytes:
    """An Office file whose directory lies about sizes, methods, flags or places."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    lying = bytearray(data)
    entries = [at for at in range(len(data) - 46) if data.startswith(b"PK\x01\x02", at)]
    for at in chance.sample(entries, min(3, len(entries))):
        offset, form = chance.choice(
            [(8, "<H"), (10, "<H"), (16, "<L"), (20, "<L"), (24, "<L"), (28, "<H"), (32, "<H"), (42, "<L")]
        )
        value = chance.choice([0, 1, 2, 8, 9, 12, 14, 99, 0xFFFF, 10**6, 2**28, 2**31, 2**32 - 1])
        struct.pack_into(form, lying, at + offset, value & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    return bytes(lying)


MEDIA_TYPES: Final = (
    None,
    "text/plain",
    "application/pdf",
    "text/html; charset=x",
    "application/json",
    "x",
    "",
    "a/b" * 99,
)


@st.composite
def files(draw: Callable[[Any], Any], names: tuple[str, ...] = tuple(FILES)) -> tuple[str, bytes, str | None]:
    """A damaged file: its name, at times that of another kind, its bytes, and a media type that may be wrong."""
    name = draw(st.sampled_from(names))
    data = FILES[name]
    how = draw(st.integers(0, 3))
    if name.endswith(PACKED) and how:
        data = draw(_misdeclared(data) if how == 1 else _repacked(data))
    elif name.endswith(".gz") and how:
        data = (
            gzip.compress(draw(damaged(TEXT.encode(), tokens=TEXT_TOKENS)), mtime=0) + data[: draw(st.integers(0, 40))]
        )
    else:
        data = draw(damaged(data, tokens=_tokens(name), most=8))
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from([*names, "x", "a.doc", "a.bin", "\ud800.txt", "a\0.pdf"]))
    return name, data, draw(st.sampled_from(MEDIA_TYPES)) if how == 3 else None
