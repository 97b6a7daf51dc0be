"""multipart/form-data comes out the same however the network cuts it."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http.multipart import Item, PartEnd, PartStart, read_parts
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio

TYPE = "multipart/form-data; boundary=edge"
BODY = (
    "--edge\r\n"
    'Content-Disposition: form-data; name="metadata"\r\n\r\n'
    '{"a": 1}\r\n'
    "--edge\r\n"
    'Content-Disposition: form-data; name="files"; filename="häuser/über uns.txt"\r\n'
    "Content-Type: Text/Plain; charset=utf-8\r\n\r\n"
    "line\r\n--edg\r\nline\r\n"
    "--edge--\r\n"
).encode()


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def parts(body: bytes, size: int = 65536, content_type: str = TYPE) -> list[tuple[PartStart, bytes]]:
    found: list[tuple[PartStart, bytes]] = []
    ended = 0
    items: AsyncIterator[Item] = read_parts(pieces(body, size), content_type)
    async for item in items:
        match item:
            case PartStart():
                found.append((item, b""))
            case PartEnd():
                ended += 1
            case bytes():
                found[-1] = found[-1][0], found[-1][1] + item
    assert ended == len(found)
    return found


@given(size=st.integers(1, 400))
async def test_the_parts_do_not_depend_on_how_the_body_is_cut(size: int) -> None:
    assert await parts(BODY, size) == [
        (PartStart(field="metadata", filename=None, media_type=""), b'{"a": 1}'),
        (
            PartStart(field="files", filename="häuser/über uns.txt", media_type="text/plain"),
            b"line\r\n--edg\r\nline",
        ),
    ]


async def test_a_file_name_that_is_not_utf8_is_spelled() -> None:
    body = BODY.replace("häuser/über uns.txt".encode(), b"caf\xe9 \xe2\x9f\xa8E8\xe2\x9f\xa9.txt")
    assert [part.filename for part, _ in await parts(body)] == [None, "caf⟨E9⟩ ⟨E8⟩.txt"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary=" + "x" * 5000),
        (BODY[:-10], TYPE),
        (b"", TYPE),
        (b"no multipart at all", TYPE),
        (b"--edge\r\nContent-Type: text/plain\r\n\r\nx\r\n--edge--\r\n", TYPE),
        (b'--edge\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--edge--\r\n', TYPE),
        (b"--edge\r\nBad Header\r\n\r\nx\r\n--edge--\r\n", TYPE),
    ],
)
async def test_a_broken_body_is_one_problem(body: bytes, content_type: str) -> None:
    with pytest.raises(Problem) as caught:
        await parts(body, content_type=content_type)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
