"""Which keys a storage takes, the same for every adapter. Pure: no I/O.

A key is one or more parts joined by '/'. A part is never empty, ``.`` or ``..``, holds no NUL, and does not begin
like the temporary files of a local store. So a key can never name anything outside of the store.
"""

from __future__ import annotations

from ckpt.errors import StorageError

TEMPORARY = ".tmp-"
"""How the names of a local store's unfinished files begin; no key part may begin so, and no listing shows them."""

_NO_PARTS = frozenset(("", ".", ".."))

KEY_FIX = "use parts joined by '/' that are not empty, '.' or '..' and do not begin with '.tmp-'"


def check_key(key: str) -> str:
    """``key`` itself. StorageError if it is no valid key."""
    if "\0" in key:
        raise StorageError(f"{key!r} is not a valid key", where=repr(key), fix=KEY_FIX)
    for part in key.split("/"):
        if part in _NO_PARTS or part.startswith(TEMPORARY):
            raise StorageError(f"{key!r} is not a valid key", where=repr(key), fix=KEY_FIX)
    return key


def split_prefix(prefix: str) -> str:
    """The key of the folder in which the keys that start with ``prefix`` lie; '' is the root. StorageError."""
    folder, slash, last = prefix.rpartition("/")
    if folder or slash:
        check_key(folder)
    if "\0" in last or last == "..":
        raise StorageError(f"{prefix!r} is not a valid prefix", where=repr(prefix), fix=KEY_FIX)
    return folder


def folder_key(prefix: str) -> str:
    """The key of the folder that ``prefix`` names, with or without its last '/'; '' is the root. StorageError."""
    folder = prefix.removesuffix("/")
    return check_key(folder) if folder else ""
