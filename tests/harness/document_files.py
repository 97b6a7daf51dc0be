"""Small real files of formats that no library of the tests writes."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

import xlsxwriter

__all__ = ["epub", "msg", "odt", "ods", "xlsx", "zipped"]

_ODF: Final = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" office:version="1.3"'
)
_MANIFEST: Final = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">{}</manifest:manifest>'
)


def zipped(files: Mapping[str, bytes | str], *, stored: str = "") -> bytes:
    """A zip archive; `stored` is the content of a first member `mimetype`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if stored:
            archive.writestr("mimetype", stored, zipfile.ZIP_STORED)
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def xlsx(
    sheets: Mapping[str, Sequence[Sequence[object]]], merged: Sequence[tuple[int, int, int, int, str]] = ()
) -> bytes:
    """A workbook; `merged` are (row, column, last row, last column, text) in the first sheet."""
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd"})
    for number, (name, rows) in enumerate(sheets.items()):
        sheet = book.add_worksheet(name)
        for row, cells in enumerate(rows):
            sheet.write_row(row, 0, cells)
        for cell in merged if not number else ():
            sheet.merge_range(*cell)
    book.close()
    return buffer.getvalue()


def ods(rows: Sequence[Sequence[str]], *, sheet: str = "Sheet1", encrypted: bool = False) -> bytes:
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>' for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )
    body = f'<office:spreadsheet><table:table table:name="{sheet}">{cells}</table:table></office:spreadsheet>'
    return _odf("spreadsheet", body, encrypted=encrypted)


def odt(body: str, *, title: str = "", encrypted: bool = False) -> bytes:
    """`body` is the content of office:text."""
    return _odf("text", f"<office:text>{body}</office:text>", title=title, encrypted=encrypted)


def _odf(kind: str, body: str, *, title: str = "", encrypted: bool = False) -> bytes:
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    secret = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>" if encrypted else ""
    return zipped(
        {
            "content.xml": f"<office:document {_ODF}><office:body>{body}</office:body></office:document>",
            "meta.xml": f"<office:document {_ODF}><office:meta><dc:title>{title}</dc:title></office:meta>"
            "</office:document>",
            "META-INF/manifest.xml": _MANIFEST.format(
                f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{mimetype}"/>{secret}'
            ),
        },
        stored=mimetype,
    )


def epub(chapters: Mapping[str, str], *, title: str = "", encrypted: str = "") -> bytes:
    """A book of XHTML chapters by file name; `encrypted` names a file under digital rights management."""
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    files = {
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book/package.opf"/></rootfiles></container>',
        "book/package.opf": '<package xmlns="http://www.idpf.org/2007/opf">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:title>{title}</dc:title></metadata><manifest><item id="n" href="nav.xhtml" properties="nav" '
        f'media-type="application/xhtml+xml"/>{items}</manifest><spine><itemref idref="n"/>{spine}</spine></package>',
        "book/nav.xhtml": "<html><body><p>Contents</p></body></html>",
        **{f"book/{name}": f"<html><body>{body}</body></html>" for name, body in chapters.items()},
    }
    if encrypted:
        files["META-INF/encryption.xml"] = (
            '<encryption><e:EncryptedData xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:CipherData>'
            f'<e:CipherReference URI="book/{encrypted}"/></e:CipherData></e:EncryptedData></encryption>'
        )
    return zipped(files, stored="application/epub+zip")


Storage = dict[str, "bytes | Storage"]
_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
_SECTOR, _MINI, _CUTOFF = 512, 64, 4096


def msg(
    texts: Mapping[int, str], *, attachments: Sequence[tuple[str, bytes] | Storage] = (), html: bytes = b""
) -> bytes:
    """An Outlook mail: texts by property id, and attachments as (name, bytes) or as a mail of `mail_storage`."""
    return compound_file(mail_storage(texts, attachments=attachments, html=html))


def mail_storage(
    texts: Mapping[int, str],
    *,
    attachments: Sequence[tuple[str, bytes] | Storage] = (),
    html: bytes = b"",
    top: bool = True,
) -> Storage:
    sent = struct.pack("<HHIQ", 0x0040, 0x0039, 6, 133_900_000_000_000_000)  # 2025-04-25 in ticks of 100 ns since 1601
    storage: Storage = {"__properties_version1.0": bytes(32 if top else 24) + sent}
    storage |= {f"__substg1.0_{name:04X}001F": text.encode("utf-16-le") for name, text in texts.items()}
    if html:
        storage["__substg1.0_10130102"] = html
    for number, attached in enumerate(attachments):
        inner: Storage = {"__properties_version1.0": bytes(8)}
        if isinstance(attached, tuple):
            inner |= {"__substg1.0_3707001F": attached[0].encode("utf-16-le"), "__substg1.0_37010102": attached[1]}
        else:
            inner["__substg1.0_3701000D"] = attached
        storage[f"__attach_version1.0_#{number:08X}"] = inner
    return storage


def compound_file(root: Storage) -> bytes:
    """[MS-CFB] version 3 with sectors of 512 bytes; siblings are a chain, which readers accept as a tree."""
    entries: list[list[object]] = []  # name, type, right sibling, child, start, size
    streams: list[tuple[int, bytes]] = []

    def add(name: str, content: "bytes | Storage") -> int:
        index = len(entries)
        entries.append([name, 2 if isinstance(content, bytes) else 5 if not index else 1, _FREE, _FREE, _END, 0])
        if isinstance(content, bytes):
            streams.append((index, content))
            return index
        before = None
        for inner in sorted(content, key=lambda one: (len(one), one.upper())):
            child = add(inner, content[inner])
            if before is None:
                entries[index][3] = child
            else:
                entries[before][2] = child
            before = child
        return index

    add("Root Entry", root)
    fat: list[int] = []
    sectors: list[bytes] = []
    mini_fat: list[int] = []
    mini = b""

    def store(data: bytes) -> int:
        count = -(-len(data) // _SECTOR)
        start = len(sectors)
        fat.extend([*range(start + 1, start + count), _END])
        sectors.extend(data[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(data), _SECTOR))
        return start

    for index, data in streams:
        entries[index][5] = len(data)
        if len(data) >= _CUTOFF:
            entries[index][4] = store(data)
        elif data:
            count, start = -(-len(data) // _MINI), len(mini_fat)
            mini_fat.extend([*range(start + 1, start + count), _END])
            mini += data.ljust(count * _MINI, b"\0")
            entries[index][4] = start
    if mini:
        entries[0][4], entries[0][5] = store(mini), len(mini)
    mini_start = (
        store(struct.pack(f"<{len(mini_fat)}I", *mini_fat).ljust(-(-len(mini_fat) // 128) * 512, b"\xff"))
        if mini_fat
        else _END
    )
    mini_sectors = -(-len(mini_fat) // 128)
    directory = b"".join(_entry(*entry) for entry in entries)
    directory += b"".join(_entry("", 0, _FREE, _FREE, 0, 0) for _ in range(-len(entries) % 4))
    directory_start = store(directory)
    fat_sectors = 1
    while fat_sectors * 128 < len(fat) + fat_sectors:
        fat_sectors += 1
    first_fat = len(sectors)
    fat += [_FAT] * fat_sectors
    table = struct.pack(f"<{len(fat)}I", *fat).ljust(fat_sectors * _SECTOR, b"\xff")
    difat = [*range(first_fat, first_fat + fat_sectors), *[_FREE] * (109 - fat_sectors)]
    header = struct.pack(
        "<8s16sHHHHH6x9I109I",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6),
        *(0, fat_sectors, directory_start, 0, _CUTOFF, mini_start, mini_sectors, _END, 0),
        *difat,
    )
    return header + b"".join(sectors) + table


def _entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le") + (b"\0\0" if name else b"")
    return struct.pack(
        "<64sHBBIII16sIQQIQ", encoded, len(encoded), kind, 1, _FREE, right, child, bytes(16), 0, 0, 0, start, size
    )
