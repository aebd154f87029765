"""``az://container/prefix``: Azure Blob Storage, through adlfs. The only home of adlfs.

Creates with ``If-None-Match: *``, large objects as blocks that one Put Block List makes a blob
(https://learn.microsoft.com/rest/api/storageservices/put-block-list). adlfs finds the credentials; requests are made one
by one on the SDK's client that it has made, without the SDK's retries.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any

from adlfs import AzureBlobFileSystem
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock

from ckpt.host import SystemClock
from ckpt.protocols import Buffer
from ckpt.storage import clients
from ckpt.storage.clients import CONNECT_S, READ_S, split_path, wait

LANES = 4
NONCE = "ckpt_upload"
SINGLE_REQUEST = 64 * 1024 * 1024
PENDING_S = 0.2
"""Seconds between two looks at a copy that the service is not done with."""

_REQUEST = {"retry_total": 0, "connection_timeout": CONNECT_S, "read_timeout": READ_S}


class AzureClient:
    """See ``clients.ObjectClient``."""

    lanes, repeatable = LANES, True

    def __init__(self, options: Mapping[str, Any]) -> None:
        always = {"skip_instance_cache": True, "use_listings_cache": False}
        self._filesystem = AzureBlobFileSystem(**{**options, **always})
        # The SDK sends up to this many bytes in one request: a conditional create is never cut into blocks.
        self._filesystem.service_client._config.max_single_put_size = SINGLE_REQUEST

    def create(self, path: str, data: bytes) -> None:
        # Commit point.
        self.blob(path, lambda blob: blob.upload_blob(data, length=len(data), overwrite=False, **_REQUEST))

    def write(self, path: str, data: bytes) -> None:
        # Commit point.
        self.blob(path, lambda blob: blob.upload_blob(data, length=len(data), overwrite=True, **_REQUEST))

    def read(self, path: str, start: int, end: int | None) -> bytes:
        async def request(blob: Any) -> bytes:
            span = {} if start == 0 and end is None else {"offset": start}
            if end is not None:
                span["length"] = end - start
            stream = await blob.download_blob(**span, **_REQUEST)
            return bytes(await stream.readall())

        found: bytes = self.blob(path, request)
        return found

    def size(self, path: str) -> int:
        return int(self.blob(path, lambda blob: blob.get_blob_properties(**_REQUEST)).size)

    def delete(self, path: str) -> None:
        self.blob(path, lambda blob: blob.delete_blob(**_REQUEST))

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        limit = clients.LISTED_AT_ONCE
        return self._listed(
            bucket,
            lambda container: container.list_blobs(name_starts_with=prefix, results_per_page=limit, **_REQUEST),
        )

    def children(self, bucket: str, folder: str) -> Iterable[str]:
        found = {"name_starts_with": folder, "delimiter": "/", "results_per_page": clients.LISTED_AT_ONCE}
        return self._listed(bucket, lambda container: container.walk_blobs(**found, **_REQUEST))

    def copy(self, source: str, target: str) -> None:
        async def url_of(blob: Any) -> str:
            return str(blob.url)

        url = self.blob(source, url_of)
        status = self.blob(target, lambda blob: blob.start_copy_from_url(url, **_REQUEST))["copy_status"]
        while status == "pending":
            SystemClock().sleep(PENDING_S)
            status = self.blob(target, lambda blob: blob.get_blob_properties(**_REQUEST)).copy.status
        if status != "success":
            raise OSError(f"the service ended the copy as {status}")

    def upload(self, path: str, nonce: str) -> AzureUpload:
        return AzureUpload(self, path, nonce)

    def blob(self, path: str, request: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """One request to a blob."""
        container, name = split_path(path)

        async def run() -> Any:
            async with self._filesystem.service_client.get_blob_client(container=container, blob=name) as blob:
                return await request(blob)

        return wait(self._filesystem, run())

    def _listed(self, bucket: str, listing: Callable[[Any], AsyncIterator[Any]]) -> list[str]:
        async def run() -> list[str]:
            async with self._filesystem.service_client.get_container_client(bucket) as container:
                return [f"{bucket}/{found.name}" async for found in listing(container)]

        return wait(self._filesystem, run())


class AzureUpload:
    """Blocks of a blob (see ``clients.Upload``). Uncommitted ones vanish by themselves after a week."""

    def __init__(self, client: AzureClient, path: str, nonce: str) -> None:
        self._client, self._path, self._nonce = client, path, nonce
        self._count = 0

    def send(self, number: int, piece: Buffer, *, last: bool) -> None:
        data = bytes(piece)
        self._client.blob(self._path, lambda blob: blob.stage_block(self._id(number), data, **_REQUEST))
        self._count = max(self._count, number + 1)

    def complete(self) -> None:
        blocks = [BlobBlock(self._id(number)) for number in range(self._count)]
        metadata = {NONCE: self._nonce}
        # Commit point.
        self._client.blob(self._path, lambda blob: blob.commit_block_list(blocks, metadata=metadata, **_REQUEST))

    def is_complete(self) -> bool:
        try:
            found = self._client.blob(self._path, lambda blob: blob.get_blob_properties(**_REQUEST))
        except ResourceNotFoundError:
            return False
        return bool((found.metadata or {}).get(NONCE) == self._nonce)

    def abort(self) -> None:
        """Nothing to do: blocks that were not committed are not visible, and there is no request to remove them."""

    def _id(self, number: int) -> str:
        return base64.b64encode(f"{self._nonce}-{number:06d}".encode()).decode()
