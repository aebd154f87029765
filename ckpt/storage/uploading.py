"""One large object in pieces: bounded in memory, a bounded number of pieces under way, and all of it or nothing.

After an error the upload is given up, unless the storage has the whole object: then only the answer was lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ckpt.protocols import Buffer
from ckpt.storage.clients import ObjectClient, Upload
from ckpt.storage.retrying import Retrying

PIECE = 8 * 1024 * 1024
"""Objects up to this many bytes are sent in one request; longer ones in pieces of this size, and later of larger ones."""

_GROW_EVERY = 1000
"""After so many pieces they get twice as long: S3 takes 10,000 of them, and 5 TiB."""


def pieces_of(parts: Iterable[Buffer]) -> Iterator[bytes]:
    """The bytes of ``parts`` in pieces; a part is copied before the next is asked for."""
    gathered, size, count = bytearray(), PIECE, 0
    for part in parts:
        view = memoryview(part)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        while view.nbytes:
            room = size - len(gathered)
            gathered += view[:room]
            view = view[room:]
            if len(gathered) == size:
                yield bytes(gathered)
                gathered, count = bytearray(), count + 1
                size = PIECE * 2 ** (count // _GROW_EVERY)
    if gathered:
        yield bytes(gathered)


def upload_pieces(client: ObjectClient, retrying: Retrying, path: str, nonce: str, pieces: Iterator[bytes]) -> int:
    """Make ``path`` of ``pieces``, which are at least two; returns their length. Raises what the client raises."""
    upload = retrying.call(lambda: client.upload(path, nonce)) if client.repeatable else client.upload(path, nonce)
    try:
        length = _send_all(client, retrying, upload, pieces)
        _complete(client, retrying, upload)
    except BaseException:
        # Whoever reads sees the object before, or nothing. What cannot be aborted now stays invisible.
        with contextlib.suppress(Exception):
            upload.abort()
        raise
    return length


def _send_all(client: ObjectClient, retrying: Retrying, upload: Upload, pieces: Iterator[bytes]) -> int:
    length, number, under_way = 0, 0, set[Future[None]]()
    piece = next(pieces)

    def send(number: int, piece: bytes, last: bool) -> None:
        if client.repeatable:
            retrying.call(lambda: _send(upload, number, piece, last))
        else:
            upload.send(number, piece, last=last)

    with ThreadPoolExecutor(client.lanes, "ckpt-upload") as lanes:
        while piece is not None:
            following = next(pieces, None)
            if len(under_way) >= client.lanes:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
            under_way.add(lanes.submit(send, number, piece, following is None))
            length, number, piece = length + len(piece), number + 1, following  # type: ignore[assignment]
        for future in under_way:
            future.result()
    return length


def _send(upload: Upload, number: int, piece: bytes, last: bool) -> None:
    try:
        upload.send(number, piece, last=last)
    except Exception:
        if not (last and upload.is_complete()):  # of some storages the last piece makes the object
            raise


def _complete(client: ObjectClient, retrying: Retrying, upload: Upload) -> None:
    def once() -> None:
        try:
            upload.complete()
        except Exception:
            if not upload.is_complete():
                raise

    if client.repeatable:
        retrying.call(once)
    else:
        upload.complete()
