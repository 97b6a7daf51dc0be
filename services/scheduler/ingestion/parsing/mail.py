"""Mails (.eml) and web pages saved as one file (.mhtml): the text, then the attachments as documents of their own."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence
from dataclasses import replace
from email.message import Message
from typing import cast

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.missing import Missing
from services.scheduler.ingestion.parsing.parts import MAX_DEPTH, MAX_PARTS, Part
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse", "with_headers"]

HEADERS = ("From", "To", "Cc", "Date", "Subject")
_BODIES = ("text/plain", "text/html")


def parse(source: Source) -> ParsedDocument:
    """The headers that people read, the plain text of the body, else its HTML, then each attachment under its name.

    Encoded words, quoted-printable and base64 are decoded, whatever the charset. An attachment that is not text is a
    warning.
    """
    message = email.message_from_bytes(source.data, policy=email.policy.default)
    if not message.keys():
        raise Problem(ProblemType.BROKEN_DOCUMENT, "It has no headers, so it is not a mail.")
    headers = {name: value for name in HEADERS if (value := _header(message, name))}
    body, attached, pictures = _divide(message)
    texts = source.parts.read(_part(part, "") for part in body)
    sections = with_headers(headers, texts.sections)
    read = source.parts.read(_part(part, f"attachment {number}") for number, part in enumerate(attached, start=1))
    found = {"title": headers.get("Subject", ""), "author": headers.get("From", "")}
    return ParsedDocument(
        media_type=source.media_type,
        sections=(*sections, *read.sections),
        metadata={key: value for key, value in found.items() if value},
        warnings=(*Missing(pictures=pictures).warnings(), *texts.warnings, *read.warnings),
    )


def with_headers(headers: dict[str, str], body: Sequence[Section]) -> list[Section]:
    """The sections of a mail under its subject, with the headers as lines above the first one."""
    lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
    subject = (headers["Subject"],) if headers.get("Subject") else ()
    sections = [replace(section, heading=(*subject, *section.heading[1:])) for section in body]
    if sections and sections[0].heading == subject:
        return [replace(sections[0], text=f"{lines}\n\n{sections[0].text}"), *sections[1:]]
    return [Section(text=lines, heading=subject), *sections]


def _header(message: Message, name: str) -> str:
    try:
        value = message.get(name)
        return " ".join(str(value).split()) if value is not None else ""
    except Exception:  # noqa: BLE001  (the parser of headers raises whatever a malformed one leads to)
        return ""


def _divide(message: Message) -> tuple[Sequence[Message], Sequence[Message], int]:
    """The parts of the body that are read, what is attached to it, and how many pictures it shows."""
    body: list[Message] = []
    attached: list[Message] = []
    waiting: list[tuple[Message, int]] = [(message, 0)]
    seen = pictures = 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        kind = part.get_content_type()
        if seen > MAX_PARTS or depth > 10 * MAX_DEPTH:
            raise Problem(ProblemType.DOCUMENT_LIMIT, f"The mail has more than {MAX_PARTS:,} parts, or too deep ones.")
        children = [child for child in part.get_payload() if isinstance(child, Message)] if part.is_multipart() else []
        if kind == "message/rfc822":
            attached.append(part)
        elif kind == "multipart/alternative":
            waiting += [(child, depth + 1) for child in reversed(_chosen(children))]
        elif children:
            waiting += [(child, depth + 1) for child in reversed(children)]
        elif kind in _BODIES and part.get_content_disposition() != "attachment":
            body.append(part)
        elif _is_inline_picture(part):
            pictures += 1
        elif not kind.startswith("multipart/"):
            attached.append(part)
    return body, attached, pictures


def _chosen(alternatives: Sequence[Message]) -> list[Message]:
    """One of several forms of the same text: the plain one where it says something."""
    plain = [part for part in alternatives if part.get_content_type() == "text/plain" and _payload(part).strip()]
    return plain[:1] or list(alternatives[-1:])


def _is_inline_picture(part: Message) -> bool:
    """Logos and signatures, which the text refers to."""
    return part.get_content_maintype() == "image" and part.get_content_disposition() != "attachment"


def _part(part: Message, name: str) -> Part:
    if part.get_content_type() == "message/rfc822":
        inner = cast("list[Message]", part.get_payload())[0]
        data = inner.as_bytes(policy=email.policy.compat32)
        return Part(
            name=_header(inner, "Subject") or name, size=len(data), load=lambda: data, media_type="message/rfc822"
        )
    data = _payload(part)
    if part.get_content_maintype() == "text" and (charset := part.get_content_charset()):
        data = decode(data, declared=charset).encode("utf-8", "replace") if data else data
    given = part.get_filename() if name else None
    kind = part.get_content_type()
    return Part(
        name=" ".join(str(given).split()) if given else name,
        size=len(data),
        load=lambda: data,
        media_type=None if kind == "application/octet-stream" else kind,
    )


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
