"""PDF: words are whole, and pages without text are said."""

import io

from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from services.scheduler.ingestion.parsing import parse


def pdf(*pages: str | None) -> bytes:
    """Pages of lines; None is a page that only shows a picture."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    for page in pages:
        if page is None:
            canvas.drawImage(_scan(), 72, 72, 400, 600)
        else:
            for row, line in enumerate(page.split("\n")):
                canvas.drawString(72, 720 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _scan() -> ImageReader:
    return ImageReader(Image.new("L", (20, 30), 200))


def text(*pages: str) -> str:
    return "\n\n".join(section.text for section in parse("a.pdf", pdf(*pages)).sections)


def test_pages_that_only_show_a_picture_are_said_and_blank_ones_are_not():
    document = parse("a.pdf", pdf("The cover.", None, None, "", "The end.", None))
    assert document.metadata["pages_without_text"] == 3
    assert [(warning.kind, warning.detail) for warning in document.warnings] == [
        (
            "pages-without-text",
            "3 of 6 pages have no text (pages 2-3, 6), probably scanned: run OCR on them first.",
        )
    ]
    assert parse("a.pdf", pdf("The cover.", "")).warnings == ()


def test_words_that_a_line_breaks_are_whole():
    assert text("The inspec-\ntion of the ware-\nhouse") == "The inspection of the warehouse"


def test_hyphens_that_belong_to_a_word_stay():
    assert text("A drive-in hall, and its drive-\nin gate") == "A drive-in hall, and its drive-in gate"
    assert text("Fault QX-\n4071 of the self-\nclosing gate") == "Fault QX-4071 of the self-closing gate"
    assert text("from A -\nto B") == "from A -\nto B"


def test_what_was_filled_into_a_form_is_read():
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 720, "Form")
    canvas.acroForm.textfield(name="keeper", value="Ida Holm", x=72, y=600)
    canvas.save()
    assert parse("a.pdf", buffer.getvalue()).sections[-1].text == "keeper: Ida Holm"
