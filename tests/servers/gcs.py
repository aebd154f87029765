"""The part of Google Cloud Storage's JSON API that gcsfs uses, in threads of the test process.

https://cloud.google.com/storage/docs/json_api. Objects have generations, which ``ifGenerationMatch`` is compared with;
``honours_preconditions=False`` ignores it without a word, as emulators do. All is kept in memory.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import itertools
import json
import os
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from servers import Missing

LIST_LIMIT = 1000


class HttpStatus(Exception):
    """An answer other than 200: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class StoredObject:
    data: bytes
    generation: int


@dataclass(slots=True)
class Upload:
    """A resumable upload that has begun."""

    bucket: str
    name: str
    condition: str | None
    data: bytearray = field(default_factory=bytearray)


class Buckets:
    """The state of the server. Thread-safe; an object changes in one step."""

    def __init__(self, *, honours_preconditions: bool) -> None:
        self._honours = honours_preconditions
        self._lock = threading.Lock()
        self._buckets: dict[str, dict[str, StoredObject]] = {}
        self._uploads: dict[str, Upload] = {}
        self._generations = itertools.count(1_700_000_000_000_000)

    def create_bucket(self, bucket: str) -> None:
        with self._lock:
            self._buckets.setdefault(bucket, {})

    def find(self, bucket: str, name: str) -> StoredObject:
        with self._lock:
            found = self._in(bucket).get(name)
        if found is None:
            raise HttpStatus(404, f"No such object: {bucket}/{name}")
        return found

    def store(self, bucket: str, name: str, data: bytes, condition: str | None) -> StoredObject:
        with self._lock:
            self._check(bucket, name, condition)
            made = self._in(bucket)[name] = StoredObject(data, next(self._generations))
            return made

    def delete(self, bucket: str, name: str, condition: str | None) -> None:
        with self._lock:
            self._check(bucket, name, condition)
            if self._in(bucket).pop(name, None) is None:
                raise HttpStatus(404, f"No such object: {bucket}/{name}")

    def snapshot(self, bucket: str) -> dict[str, StoredObject]:
        with self._lock:
            return dict(self._in(bucket))

    def begin(self, bucket: str, name: str, condition: str | None) -> str:
        with self._lock:
            self._check(bucket, name, condition)
            number = str(next(self._generations))
            self._uploads[number] = Upload(bucket, name, condition)
            return number

    def upload(self, number: str) -> Upload:
        with self._lock:
            if number not in self._uploads:
                raise HttpStatus(404, "No such upload")
            return self._uploads[number]

    def forget(self, number: str) -> None:
        with self._lock:
            self._uploads.pop(number, None)

    def _in(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self._buckets:
            raise HttpStatus(404, f"No such bucket: {bucket}")
        return self._buckets[bucket]

    def _check(self, bucket: str, name: str, condition: str | None) -> None:
        if condition is None or not self._honours:
            return
        found = self._in(bucket).get(name)
        if int(condition) != (0 if found is None else found.generation):
            raise HttpStatus(412, "At least one of the pre-conditions you specified did not hold.")


class Handler(BaseHTTPRequestHandler):
    """One connection. The routes are in ``do_*``; what they raise becomes the answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    buckets: Buckets

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    do_PUT = do_POST

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test says what it needs to."""

    def _answer(self, route: Any) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urllib.parse.urlsplit(self.path)
        self._query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        self._parts = [urllib.parse.unquote(part) for part in split.path.strip("/").split("/")]
        try:
            route()
        except HttpStatus as error:
            content = {"error": {"code": error.status, "message": error.message}}
            self._send(error.status, json.dumps(content).encode())

    def _get(self) -> None:
        match self._parts:
            case ["storage", "v1", "b", bucket]:
                self.buckets.snapshot(bucket)
                self._send_json({"kind": "storage#bucket", "name": bucket})
            case ["storage", "v1", "b", bucket, "o"]:
                self._send_json(self._listing(bucket))
            case ["storage", "v1", "b", bucket, "o", name] if self._query.get("alt") != "media":
                self._send_json(resource(bucket, name, self.buckets.find(bucket, name)))
            case [*_, "storage", "v1", "b", bucket, "o", name]:
                self._send_content(self.buckets.find(bucket, name))
            case _:
                raise HttpStatus(404, self.path)

    def _post(self) -> None:
        match self._parts:
            case ["storage", "v1", "b"]:
                self.buckets.create_bucket(json.loads(self._body)["name"])
                self._send_json({"kind": "storage#bucket"})
            case ["upload", "storage", "v1", "b", bucket, "o"] if self._query.get("uploadType") == "resumable":
                name = self._query.get("name") or json.loads(self._body)["name"]
                number = self.buckets.begin(bucket, name, self._query.get("ifGenerationMatch"))
                host = self.headers["Host"]
                self._send(200, b"", {"Location": f"http://{host}/upload/resumable/of/this/server/{number}"})
            case ["upload", "storage", "v1", "b", bucket, "o"]:
                name, data = two_parts(self.headers["Content-Type"], self._body)
                condition = self._query.get("ifGenerationMatch")
                self._send_json(resource(bucket, name, self.buckets.store(bucket, name, data, condition)))
            case ["upload", "resumable", *_, number]:
                self._continue(number)
            case _:
                raise HttpStatus(404, self.path)

    def _delete(self) -> None:
        match self._parts:
            case ["upload", "resumable", *_, number]:
                self.buckets.forget(number)
                self._send(499, b"")
            case ["storage", "v1", "b", bucket, "o", name]:
                self.buckets.delete(bucket, name, self._query.get("ifGenerationMatch"))
                self._send(204, b"")
            case _:
                raise HttpStatus(404, self.path)

    def _continue(self, number: str) -> None:
        """One more piece of a resumable upload; the piece that names the whole length ends it."""
        upload = self.buckets.upload(number)
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
        if found is None or (found[1] is not None and int(found[1]) != len(upload.data)):
            raise HttpStatus(400, f"Invalid range: {self.headers['Content-Range']}, got {len(upload.data)}")
        upload.data += self._body
        if found[3] != str(len(upload.data)):
            return self._send(308, b"", {"Range": f"bytes=0-{len(upload.data) - 1}"})
        stored = self.buckets.store(upload.bucket, upload.name, bytes(upload.data), upload.condition)
        self.buckets.forget(number)
        return self._send_json(resource(upload.bucket, upload.name, stored))

    def _listing(self, bucket: str) -> dict[str, Any]:
        prefix, delimiter = self._query.get("prefix", ""), self._query.get("delimiter")
        after, limit = self._query.get("pageToken", ""), int(self._query.get("maxResults") or LIST_LIMIT)
        items, prefixes, last = [], [], ""
        for name, found in sorted(self.buckets.snapshot(bucket).items()):
            if not name.startswith(prefix):
                continue
            folder, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            shown = prefix + folder + cut if cut else name
            if shown <= after or (cut and shown in prefixes):
                continue
            if len(items) + len(prefixes) == limit:
                return {"kind": "storage#objects", "items": items, "prefixes": prefixes, "nextPageToken": last}
            last = shown
            if cut:
                prefixes.append(shown)
            else:
                items.append(resource(bucket, name, found))
        return {"kind": "storage#objects", "items": items, "prefixes": prefixes}

    def _send_content(self, found: StoredObject) -> None:
        headers = {"X-Goog-Generation": str(found.generation)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self._send(200, found.data, headers)
        start, size = int(asked[1]), len(found.data)
        if start >= size:
            raise HttpStatus(416, "The requested range cannot be satisfied.")
        end = min(int(asked[2] or size - 1), size - 1)
        return self._send(206, found.data[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{size}"})

    def _send_json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def resource(bucket: str, name: str, found: StoredObject) -> dict[str, Any]:
    """An object as the API shows it."""
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(found.data)),
        "generation": str(found.generation),
        "metageneration": "1",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
        "md5Hash": base64.b64encode(hashlib.md5(found.data).digest()).decode(),
    }


def two_parts(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Name and bytes of a ``multipart/related`` upload."""
    boundary = BytesParser().parsebytes(f"Content-Type: {content_type}\n\n".encode()).get_boundary()
    assert boundary is not None
    _, metadata, rest = body.split(b"--" + boundary.encode(), 2)
    data = rest.removesuffix(b"--").removesuffix(b"--" + boundary.encode()).split(b"\n\n", 1)[1].removesuffix(b"\n")
    name: str = json.loads(metadata.split(b"\n\n", 1)[1])["name"]
    return name, data


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or cut off by the proxy, is no error here."""


class GcsServer:
    """``gs://`` on this process."""

    def __init__(self, *, honours_preconditions: bool = True) -> None:
        if importlib.util.find_spec("gcsfs") is None:
            raise Missing("the GCS adapter needs gcsfs: pip install gcsfs")
        # Read when gcsfs is imported, by this process too: else it asks Google over gRPC what kind of bucket this is.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        self.buckets = Buckets(honours_preconditions=honours_preconditions)
        self._names = itertools.count()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (Handler,), {"buckets": self.buckets})
        self._server = Listener(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True, name="gcs-server").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_options(self) -> dict[str, object]:
        return {"endpoint_url": self.endpoint, "token": "anon", "project": "test"}

    @property
    def environ(self) -> dict[str, str]:
        return {
            "STORAGE_EMULATOR_HOST": self.endpoint,
            "FSSPEC_GS_TOKEN": "anon",
            "FSSPEC_GS_PROJECT": "test",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def fresh_store_url(self) -> str:
        bucket = f"bucket-{next(self._names)}"
        self.buckets.create_bucket(bucket)
        return f"gs://{bucket}/store"
