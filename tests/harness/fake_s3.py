"""A small S3-speaking server over real HTTP, for signed requests only: ListObjectsV2 in pages, GetObject, PutObject,
uploads in parts, and DeleteObjects."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["FakeS3", "serving_s3"]

PAGE = 2
"""Keys in one page of a listing, so that tests turn pages."""


class FakeS3:
    """Buckets of objects by key. `loads` are the keys that were read, in order; `broken` answers all with 500.
    `uploads` are the parts of uploads that were begun and not completed."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.loads: list[str] = []
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.broken = False
        self.url = ""

    def listing(self, bucket: str, prefix: str, after: str) -> str:
        keys = sorted(key for key in self.buckets[bucket] if key.startswith(prefix) and key > after)
        page = keys[:PAGE]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > PAGE else ""
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.etag(bucket, key)}&quot;</ETag><Size>{len(self.buckets[bucket][key])}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(len(keys) > PAGE).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
        )

    def etag(self, bucket: str, key: str) -> str:
        return hashlib.md5(self.buckets[bucket][key], usedforsecurity=False).hexdigest()


@contextmanager
def serving_s3() -> Iterator[FakeS3]:
    fake = FakeS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _asked(self) -> tuple[str, str, dict[str, str]] | None:
            """Bucket, key and query; None where the request is answered already."""
            asked = urlsplit(self.path)
            bucket, _, key = unquote(asked.path).lstrip("/").partition("/")
            query = {name: values[0] for name, values in parse_qs(asked.query, keep_blank_values=True).items()}
            if fake.broken:
                self._answer(500, b"<Error><Code>InternalError</Code></Error>")
            elif not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
                self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            else:
                return bucket, key, query
            return None

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def do_PUT(self) -> None:
            body = self._body()
            if (asked := self._asked()) is None:
                return
            bucket, key, query = asked
            if "uploadId" in query:
                fake.uploads[query["uploadId"]][int(query["partNumber"])] = body
            else:
                fake.buckets[bucket][key] = body
            self._answer(200, b"", etag=hashlib.md5(body, usedforsecurity=False).hexdigest())

        def do_POST(self) -> None:
            body = self._body()
            if (asked := self._asked()) is None:
                return
            bucket, key, query = asked
            if "uploads" in query:
                upload = f"upload{len(fake.uploads)}"
                fake.uploads[upload] = {}
                answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            elif "delete" in query:
                named = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for gone in named:
                    fake.buckets[bucket].pop(gone, None)
                deleted = "".join(f"<Deleted><Key>{gone}</Key></Deleted>" for gone in named)
                answer = f"<DeleteResult>{deleted}</DeleteResult>"
            else:
                parts = fake.uploads.pop(query["uploadId"])
                fake.buckets[bucket][key] = b"".join(parts[number] for number in sorted(parts))
                etag = fake.etag(bucket, key)
                answer = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            self._answer(200, answer.encode())

        def do_GET(self) -> None:
            if (asked := self._asked()) is None:
                return
            bucket, key, query = asked
            if bucket not in fake.buckets or (key and key not in fake.buckets[bucket]):
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            elif key:
                fake.loads.append(key)
                self._answer(200, fake.buckets[bucket][key], etag=fake.etag(bucket, key))
            else:
                token = query.get("continuation-token", "")
                self._answer(200, fake.listing(bucket, query.get("prefix", ""), token).encode())

        def _answer(self, status: int, body: bytes, etag: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            if etag:
                self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
