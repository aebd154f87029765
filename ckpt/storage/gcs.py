"""``gs://bucket/prefix``: Google Cloud Storage, through gcsfs. The only home of gcsfs.

Creates with ``ifGenerationMatch=0`` (https://cloud.google.com/storage/docs/request-preconditions), large objects by
resumable upload, whose pieces go up one after the other (https://cloud.google.com/storage/docs/resumable-uploads).
gcsfs finds the credentials; requests are made one by one, without its caches and its retries.
"""

from __future__ import annotations

import base64
import hashlib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import ClientTimeout
from gcsfs import GCSFileSystem
from gcsfs.core import initiate_upload, simple_upload
from gcsfs.retry import validate_response

from ckpt.protocols import Buffer
from ckpt.storage import clients
from ckpt.storage.clients import CONNECT_S, READ_S, REQUEST_S, split_path, wait

_OBJECT = "b/{}/o/{}"
_INCOMPLETE = 308


class GcsClient:
    """See ``clients.ObjectClient``."""

    lanes, repeatable = 1, True

    def __init__(self, options: Mapping[str, Any]) -> None:
        limit = ClientTimeout(total=REQUEST_S, sock_connect=CONNECT_S, sock_read=READ_S)
        always = {"skip_instance_cache": True, "use_listings_cache": False}
        self._filesystem = GCSFileSystem(**{"requests_timeout": limit, **options, **always})
        # gcsfs's own tries six times, by itself, and does not tell what the server said besides: remote tries again.
        self._filesystem._request = types.MethodType(_request_once, self._filesystem)

    def create(self, path: str, data: bytes) -> None:
        self._send_whole(path, data, mode="create")  # Commit point.

    def write(self, path: str, data: bytes) -> None:
        self._send_whole(path, data, mode="overwrite")  # Commit point.

    def _send_whole(self, path: str, data: bytes, mode: str) -> None:
        bucket, key = split_path(path)
        wait(self._filesystem, simple_upload(self._filesystem, bucket, key, data, mode=mode))

    def read(self, path: str, start: int, end: int | None) -> bytes:
        bucket, key = split_path(path)
        headers = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        _, found = self.call("GET", _OBJECT, bucket, key, alt="media", headers=headers)
        return bytes(found)

    def size(self, path: str) -> int:
        return int(self.look_up(path)["size"])

    def look_up(self, path: str) -> dict[str, Any]:
        """The object's resource: size, md5Hash, generation."""
        found: dict[str, Any] = self.call("GET", _OBJECT, *split_path(path), json_out=True)
        return found

    def delete(self, path: str) -> None:
        self.call("DELETE", _OBJECT, *split_path(path))

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        for page in self._pages(bucket, prefix=prefix):
            yield from (f"{bucket}/{found['name']}" for found in page.get("items", ()))

    def children(self, bucket: str, folder: str) -> Iterable[str]:
        for page in self._pages(bucket, prefix=folder, delimiter="/"):
            yield from (f"{bucket}/{found['name']}" for found in page.get("items", ()))
            yield from (f"{bucket}/{found}" for found in page.get("prefixes", ()))

    def upload(self, path: str, nonce: str) -> GcsUpload:
        bucket, key = split_path(path)
        return GcsUpload(self, path, wait(self._filesystem, initiate_upload(self._filesystem, bucket, key)))

    def call(self, method: str, path: str, *arguments: str, **options: Any) -> Any:
        """One request of the JSON API; ``path`` may be a whole address."""
        return wait(self._filesystem, self._filesystem._call(method, path, *arguments, **options))

    def put_piece(self, location: str, data: bytes, content_range: str) -> tuple[int, Mapping[str, str]]:
        """One request of a resumable upload: status (308 while pieces are missing) and headers."""
        headers = {"Content-Range": content_range, "Content-Length": str(len(data))}
        # Not PUT: aiohttp sends one of those again by itself when a connection breaks.
        request = self._filesystem._request("POST", location, headers=headers, data=data)
        status, found, _, _ = wait(self._filesystem, request)
        return int(status), found

    def _pages(self, bucket: str, **options: str) -> Iterable[Any]:
        more: dict[str, str] = {}
        while True:
            limit = str(clients.LISTED_AT_ONCE)
            page = self.call("GET", "b/{}/o", bucket, json_out=True, maxResults=limit, **options, **more)
            yield page
            if "nextPageToken" not in page:
                return
            more = {"pageToken": page["nextPageToken"]}


class GcsUpload:
    """A resumable upload (see ``clients.Upload``): its last piece makes the object, which is known by its MD5."""

    def __init__(self, client: GcsClient, path: str, location: str) -> None:
        self._client, self._path, self._location = client, path, location
        self._length, self._digest = 0, hashlib.md5(usedforsecurity=False)
        self._known = -1
        self._unsure = False

    def send(self, number: int, piece: Buffer, *, last: bool) -> None:
        data = bytes(piece)
        if number > self._known:
            self._digest.update(data)
            self._known, self._length = number, self._length + len(data)
        total = str(self._length) if last else "*"
        begin = self._length - len(data)
        if self._unsure:  # some of the piece may have arrived
            begin = max(begin, self._put(b"", f"bytes */{total}"))
        self._unsure = True
        while begin < self._length:
            rest = data[begin - self._length :]
            begin = self._put(rest, f"bytes {begin}-{self._length - 1}/{total}")  # Commit point, with the total.
        self._unsure = False

    def _put(self, data: bytes, content_range: str) -> int:
        """How many bytes of the object have arrived after this request."""
        status, headers = self._client.put_piece(self._location, data, content_range)
        if status != _INCOMPLETE:
            return self._length
        found = re.fullmatch(r"bytes=0-(\d+)", headers.get("Range", ""))
        return int(found[1]) + 1 if found else 0

    def complete(self) -> None:
        """The last piece has done it."""

    def is_complete(self) -> bool:
        try:
            found = self._client.look_up(self._path)
        except FileNotFoundError:
            return False
        mine = base64.b64encode(self._digest.digest()).decode()
        return int(found["size"]) == self._length and found.get("md5Hash") == mine

    def abort(self) -> None:
        self._client.call("DELETE", self._location)


async def _request_once(filesystem: Any, method: str, path: str, *args: str, **options: Any) -> tuple[Any, ...]:
    """In the place of ``GCSFileSystem._request``: one try, and its error has the answer's ``status`` and ``headers``."""
    await filesystem._set_session()
    headers, body, data = options.pop("headers", None), options.pop("json", None), options.pop("data", None)
    address, limit = filesystem._format_path(path, args), filesystem.requests_timeout
    parameters, headers = filesystem._get_params(options), filesystem._get_headers(headers)
    session = filesystem.session.request(
        method=method, url=address, params=parameters, json=body, headers=headers, data=data, timeout=limit
    )
    async with session as answer:
        contents = await answer.read()
        try:
            validate_response(answer.status, contents, path, args)
        except Exception as error:
            error.status, error.headers = answer.status, dict(answer.headers)  # type: ignore[attr-defined]
            raise
        return answer.status, answer.headers, answer.request_info, contents
