"""Mails are their text, decoded, and their attachments."""

from email.message import EmailMessage

import pytest

from services.scheduler.ingestion.parsing import ParsedDocument, parse
from shared.contracts.problems import Problem, ProblemType
from tests.harness.document_files import mail_storage, msg, zipped

SUBJECT, BODY, TO, SENDER, ADDRESS = 0x0037, 0x1000, 0x0E04, 0x0C1A, 0x5D01


def mail(text: str = "The gate is mended.\n", subject: str = "Gate") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ida <ida@example.org>", "yard@example.org", subject
    message.set_content(text, cte="base64")
    return message


def outline(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    return [(section.heading, section.text) for section in document.sections]


def test_a_mail_is_its_headers_and_its_decoded_text_under_its_subject():
    document = parse("a.eml", mail("Öffnung am März.\n", subject="Tür").as_bytes())
    assert outline(document) == [
        (("Tür",), "From: Ida <ida@example.org>\nTo: yard@example.org\nSubject: Tür\n\nÖffnung am März.")
    ]
    assert document.metadata == {"title": "Tür", "author": "Ida <ida@example.org>"}
    assert document.warnings == ()


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-8", "no-such-charset"])
def test_quoted_printable_text_is_decoded_whatever_its_charset_is_called(charset):
    source = (
        f"From: a@b.c\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: quoted-printable\n\n"
    )
    word = "=FC" if charset == "iso-8859-1" else "=C3=BC"
    assert "Prüfung der Tore" in parse("a.eml", f"{source}Pr{word}fung der =\nTore\n".encode()).sections[-1].text


def test_of_alternatives_the_plain_text_is_read_and_html_where_there_is_none():
    both = mail("plain words")
    both.add_alternative("<p>formatted words</p>", subtype="html")
    assert "formatted" not in parse("a.eml", both.as_bytes()).sections[0].text
    html = EmailMessage()
    html["Subject"] = "Gate"
    html.set_content("<h1>Top</h1><p>formatted words</p>", subtype="html")
    assert outline(parse("a.eml", html.as_bytes()))[-1] == (("Gate", "Top"), "formatted words")


def test_attachments_are_documents_under_their_names_and_others_are_said():
    message = mail()
    message.add_attachment(b"# Plan\n\nDig here.", maintype="text", subtype="markdown", filename="plän.md")
    message.add_attachment(b"\x89PNG\0\0" * 99, maintype="image", subtype="png", filename="logo.png")
    message.add_attachment(mail("inner text", subject="Inner"))
    document = parse("a.eml", message.as_bytes())
    assert outline(document)[1] == (("plän.md", "Plan"), "Dig here.")
    assert document.sections[2].heading == ("Inner",)
    assert "inner text" in document.sections[2].text
    assert [warning.detail for warning in document.warnings] == [
        "logo.png is not read: Documents of this kind (.png) are not text."
    ]


def test_a_picture_within_the_text_is_said():
    message = mail()
    message.add_related(b"\x89PNG\0\0", maintype="image", subtype="png", cid="<a>")
    assert [warning.kind for warning in parse("a.eml", message.as_bytes()).warnings] == ["skipped-part"]


def test_a_web_page_in_one_file_is_read_as_html():
    source = b"Subject: Page\nContent-Type: multipart/related; boundary=x\n\n"
    source += b"--x\nContent-Type: text/html\n\n<p>Hello</p>\n--x--\n"
    assert "Hello" in parse("a.mhtml", source).sections[-1].text


def test_what_has_no_headers_is_no_mail():
    with pytest.raises(Problem) as caught:
        parse("a.eml", b"\njust words\n")
    assert caught.value.kind is ProblemType.BROKEN_DOCUMENT


def test_mails_within_mails_end_somewhere():
    message = mail()
    for _ in range(12):
        outer = mail()
        outer.add_attachment(message)
        message = outer
    with pytest.raises(Problem) as caught:
        parse("a.eml", message.as_bytes())
    assert caught.value.kind is ProblemType.DOCUMENT_LIMIT


def test_an_outlook_mail_is_its_text_and_its_attachments():
    inner = mail_storage({SUBJECT: "Inner", BODY: "inner text"}, top=False)
    data = msg(
        {SUBJECT: "Tür", SENDER: "Ida", ADDRESS: "ida@example.org", TO: "yard", BODY: "The gate is mended.\r\n"},
        attachments=[
            ("plan.md", b"# Plan\n\nDig here."),
            ("big.txt", b"long words " * 900),
            ("x.png", b"\x89PNG\0"),
            inner,
        ],
    )
    document = parse("a.msg", data)
    assert document.metadata == {"title": "Tür", "author": "Ida <ida@example.org>"}
    found = outline(document)
    assert found[0][0] == ("Tür",)
    assert found[0][1].startswith("From: Ida <ida@example.org>\nTo: yard\nDate: 2025-")
    assert found[0][1].endswith("The gate is mended.")
    assert found[1] == (("plan.md", "Plan"), "Dig here.")
    assert found[2][0] == ("big.txt",)
    assert found[3][0] == ("Inner",)
    assert [warning.kind for warning in document.warnings] == ["skipped-part"]


def test_an_outlook_mail_without_plain_text_is_read_as_html():
    assert (
        parse("a.msg", msg({SUBJECT: "S"}, html=b"<p>formatted <b>words</b></p>"))
        .sections[0]
        .text.endswith("formatted words")
    )


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_outlook_mail_is_read_or_broken(share):
    data = msg({SUBJECT: "S", BODY: "words " * 2_000})
    try:
        found = parse("a.msg", data[: int(len(data) * share)]).sections
    except Problem as problem:
        found = problem.kind
    assert found is ProblemType.BROKEN_DOCUMENT or "words" in found[0].text


def test_a_mail_within_an_archive_is_read():
    document = parse("a.zip", zipped({"in/a.eml": mail().as_bytes()}))
    assert document.sections[0].heading == ("in/a.eml", "Gate")
