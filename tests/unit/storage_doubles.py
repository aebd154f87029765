"""fsspec filesystems in memory that behave like object stores: honest ones, and ones that only look so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

SCHEME = "honest"


class HonestFileSystem(MemoryFileSystem):
    """Creates exclusively. ``trouble``, where set, is called before (False) and after (True) each create."""

    protocol = SCHEME
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the parent
    pseudo_dirs = [""]  # noqa: RUF012
    lock = threading.Lock()
    trouble: Callable[[bool], None] | None = None
    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).made += 1

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        scheme = cls.protocol if isinstance(cls.protocol, str) else cls.protocol[0]
        return super()._strip_protocol(path.removeprefix(f"{scheme}://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode != "create":
            super().pipe_file(path, value, mode=mode)
            return
        trouble = type(self).trouble
        if trouble:
            trouble(False)
        with self.lock:
            self.create(path, value)
        if trouble:
            trouble(True)

    def create(self, path: str, value: bytes) -> None:
        if self.isfile(path):
            raise FileExistsError(path)
        super().pipe_file(path, value)


class ConditionIgnoring(HonestFileSystem):
    """A server that does not know the condition and overwrites (many S3 clones)."""

    protocol = "ignoring"

    def create(self, path: str, value: bytes) -> None:
        MemoryFileSystem.pipe_file(self, path, value)


class EmptyOverwriting(HonestFileSystem):
    """Takes the other way for empty data, which forgets the condition (s3fs's open("xb"))."""

    protocol = "emptying"

    def create(self, path: str, value: bytes) -> None:
        if value:
            super().create(path, value)
        else:
            MemoryFileSystem.pipe_file(self, path, value)


class LookThenWrite(HonestFileSystem):
    """Looks first and writes then: right for one client, wrong for two at once (fsspec's local filesystem)."""

    protocol = "racing"
    lock = threading.Lock()
    together = threading.Barrier(2)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create" and self.isfile(path):
            raise FileExistsError(path)
        if mode == "create":
            try:
                self.together.wait(timeout=2)  # the worst moment: both have looked
            except threading.BrokenBarrierError:
                self.together.reset()
        MemoryFileSystem.pipe_file(self, path, value)


class WithoutCreate(HonestFileSystem):
    """Has fsspec's own fallback only (sftp, ftp, smb)."""

    protocol = "plain"
    pipe_file = AbstractFileSystem.pipe_file


class UploadFile(AbstractBufferedFile):
    """Sends pieces; the object is there once the file is closed, also by the garbage collector (s3fs, gcsfs, adlfs)."""

    def _initiate_upload(self) -> None:
        self.pieces: list[bytes] = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self.pieces.append(self.buffer.getvalue())
        if final:
            MemoryFileSystem.pipe_file(self.fs, self.path, b"".join(self.pieces))
        return True

    def discard(self) -> None:
        self.fs.discarded.append(self.path)


class Uploading(HonestFileSystem):
    """Large objects are sent in pieces."""

    protocol = "uploading"
    discarded: list[str] = []  # noqa: RUF012

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "wb" and "data" not in kwargs:
            return UploadFile(self, path, mode, **kwargs)
        return super().open(path, mode, **kwargs)


for double in (HonestFileSystem, ConditionIgnoring, EmptyOverwriting, LookThenWrite, WithoutCreate, Uploading):
    fsspec.register_implementation(double.protocol, double, clobber=True)
