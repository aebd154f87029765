"""``s3://bucket/prefix``: Amazon S3 and what speaks its protocol, through s3fs. The only home of s3fs.

Creates with ``If-None-Match: *`` in one PutObject, large objects by multipart upload
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). s3fs is used for what it does well:
credentials, regions, endpoints and configuration; requests are made one by one, without its caches and its retries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from s3fs import S3FileSystem

from ckpt.protocols import Buffer
from ckpt.storage import clients
from ckpt.storage.clients import CONNECT_S, READ_S, split_path, wait

LANES = 4
NONCE = "ckpt-upload"
COPIED_AT_ONCE = 512 << 20
"""Bytes that one request copies, at most. S3 takes ten times as many, but then a request takes minutes."""


class S3Client:
    """See ``clients.ObjectClient``."""

    lanes, repeatable = LANES, True

    def __init__(self, options: Mapping[str, Any]) -> None:
        given = dict(options)
        limits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "max_pool_connections": 4 * LANES}
        config = limits | dict(given.pop("config_kwargs", None) or {}) | {"retries": {"total_max_attempts": 1}}
        always = {"skip_instance_cache": True, "use_listings_cache": False, "config_kwargs": config}
        self._filesystem = S3FileSystem(**given, **always)
        self._filesystem.retries = 1  # of s3fs itself: remote tries again

    def create(self, path: str, data: bytes) -> None:
        bucket, key = split_path(path)
        self.call("put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")  # Commit point.

    def write(self, path: str, data: bytes) -> None:
        bucket, key = split_path(path)
        self.call("put_object", Bucket=bucket, Key=key, Body=data)  # Commit point.

    def read(self, path: str, start: int, end: int | None) -> bytes:
        bucket, key = split_path(path)
        asked = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        async def request() -> bytes:
            answer = await self._filesystem._call_s3("get_object", Bucket=bucket, Key=key, **asked)
            async with answer["Body"] as body:
                return bytes(await body.read())

        return wait(self._filesystem, request())

    def size(self, path: str) -> int:
        bucket, key = split_path(path)
        return int(self.call("head_object", Bucket=bucket, Key=key)["ContentLength"])

    def delete(self, path: str) -> None:
        bucket, key = split_path(path)
        self.call("delete_object", Bucket=bucket, Key=key)

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        for page in self._pages(bucket, Prefix=prefix):
            yield from (f"{bucket}/{found['Key']}" for found in page.get("Contents", ()))

    def children(self, bucket: str, folder: str) -> Iterable[str]:
        for page in self._pages(bucket, Prefix=folder, Delimiter="/"):
            yield from (f"{bucket}/{found['Key']}" for found in page.get("Contents", ()))
            yield from (f"{bucket}/{found['Prefix']}" for found in page.get("CommonPrefixes", ()))

    def copy(self, source: str, target: str) -> None:
        (bucket, key), size = split_path(target), self.size(source)
        place, origin = {"Bucket": bucket, "Key": key}, dict(zip(("Bucket", "Key"), split_path(source), strict=True))
        if size <= COPIED_AT_ONCE:
            self.call("copy_object", **place, CopySource=origin)  # Commit point.
            return
        upload = {**place, "UploadId": self.call("create_multipart_upload", **place)["UploadId"]}
        try:
            parts = []
            for number, start in enumerate(range(0, size, COPIED_AT_ONCE), 1):
                part = f"bytes={start}-{min(start + COPIED_AT_ONCE, size) - 1}"
                done = self.call("upload_part_copy", **upload, PartNumber=number, CopySource=origin, CopySourceRange=part)
                parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
            self.call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})  # Commit point.
        except BaseException:
            self.call("abort_multipart_upload", **upload)
            raise

    def upload(self, path: str, nonce: str) -> S3Upload:
        return S3Upload(self, path, nonce)

    def call(self, method: str, **arguments: Any) -> Any:
        """One request of the S3 API."""
        return wait(self._filesystem, self._filesystem._call_s3(method, **arguments))

    def _pages(self, bucket: str, **arguments: str) -> Iterable[Any]:
        more: dict[str, str] = {}
        while True:
            limit = clients.LISTED_AT_ONCE
            page = self.call("list_objects_v2", Bucket=bucket, MaxKeys=limit, **arguments, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}


class S3Upload:
    """A multipart upload (see ``clients.Upload``). Its object is known by a nonce in its metadata."""

    def __init__(self, client: S3Client, path: str, nonce: str) -> None:
        self._client, self._nonce = client, nonce
        bucket, key = split_path(path)
        self._object = {"Bucket": bucket, "Key": key}
        begun = client.call("create_multipart_upload", **self._object, Metadata={NONCE: nonce})
        self._upload = {**self._object, "UploadId": begun["UploadId"]}
        self._etags: dict[int, str] = {}

    def send(self, number: int, piece: Buffer, *, last: bool) -> None:
        answer = self._client.call("upload_part", **self._upload, PartNumber=number + 1, Body=bytes(piece))
        self._etags[number] = answer["ETag"]

    def complete(self) -> None:
        parts = [{"PartNumber": number + 1, "ETag": etag} for number, etag in sorted(self._etags.items())]
        # Commit point.
        self._client.call("complete_multipart_upload", **self._upload, MultipartUpload={"Parts": parts})

    def is_complete(self) -> bool:
        try:
            found = self._client.call("head_object", **self._object)
        except FileNotFoundError:
            return False
        return bool(found.get("Metadata", {}).get(NONCE) == self._nonce)

    def abort(self) -> None:
        self._client.call("abort_multipart_upload", **self._upload)
