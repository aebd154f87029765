"""``ckpt.output``: an append-only file whose length is part of the checkpoint. Outside a job a plain append file."""

from __future__ import annotations

import os
from typing import IO, Any, Literal, overload

from ckpt.session import current

TextMode = Literal["a", "at", "w", "wt"]
BinaryMode = Literal["ab", "wb"]


@overload
def output(
    path: str | os.PathLike[str],
    mode: TextMode = "a",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    join: bool = True,
) -> IO[str]: ...


@overload
def output(path: str | os.PathLike[str], mode: BinaryMode, *, join: bool = True) -> IO[bytes]: ...


def output(
    path: str | os.PathLike[str],
    mode: str = "a",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    join: bool = True,
) -> Any:
    """An output file of the job: killed and resumed, it gets the bytes that an uninterrupted run writes.

    ``path``: a local path, or the URL of an object. ``mode``: "a" appends to what is there when the run first opens it,
    "w" begins empty then; with "b" for bytes. ``encoding`` (default UTF-8), ``errors`` and ``newline`` as for ``open``. An
    object is uploaded in parts, which the end of the run joins; ``join=False`` lists them in ``<path>.manifest.json``.

    What was written is durable once the next checkpoint is, and the whole file when the job has returned. Until then
    ``<path>.ckpt`` beside a local file says which run it belongs to. Raises OutputBusyError (another run's file),
    OutputChangedError (on a resume: not the bytes that the run left), OptionError (in a step, another thread or a child
    process of a job), StorageError. Outside a job a plain file; an object is written, whole, when it is closed.
    """
    from ckpt.outputs import Settings, open_plain

    settings = Settings(mode, encoding, errors, newline, join)
    run = current.run_of_process()
    if run is None or not run.alive:
        return open_plain(path, settings)
    return run.open_output(path, settings)
