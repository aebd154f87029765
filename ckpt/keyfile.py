"""Files that hold keys: one secret a line (64 hexadecimal digits), the first one signs, all verify. Mode 0600.

Guarantees: a key file is never overwritten by a new key, and a rotation leaves either the old file or the new one, with
all old keys in it, whenever the machine stops. A file that others may read or change is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from ckpt.errors import CorruptionError, OptionError, StorageError, UntrustedError
from ckpt.format.keys import UNSIGNED, Key

_MAX_SIZE = 64 * 1024


def read_key_file(path: Path) -> Key:
    """UntrustedError if others than its owner can read or change it; StorageError; CorruptionError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_SIZE)
    except OSError as error:
        what = f"cannot read the key file: {error.strerror or error}"
        raise StorageError(
            what, where=str(path), fix="check that the file is there and that this user may read it"
        ) from error
    if mode & 0o077:
        raise UntrustedError(
            f"the key file is open to others (mode {mode:04o})",
            where=str(path),
            fix=f"chmod 600 {path} (if the file system keeps no modes: move the key elsewhere and set CKPT_KEY)",
        )
    return parse_key_file(text, str(path))


def parse_key_file(text: bytes, path: str) -> Key:
    """The key or keys in the content of a key file. CorruptionError."""
    try:
        return Key.parse(text.decode("ascii"))
    except (OptionError, UnicodeDecodeError) as error:
        fix = "put the key file back from a backup, or give its text as CKPT_KEY"
        raise CorruptionError("the key file does not hold a key", path=path, fix=fix) from error


def write_new(path: Path, key: Key) -> None:
    """Create a key file, durably. OptionError if there is a file already; StorageError."""
    try:
        _create(path, key)
    except FileExistsError as error:
        fix = "give another name; to add a new key in front of its keys: ckpt key rotate FILE"
        raise OptionError("there is a file already, and a key is never overwritten", where=str(path), fix=fix) from error
    except OSError as error:
        raise _unwritable(path, error) from error


def rotate(path: Path, entropy: Callable[[int], bytes]) -> Key:
    """Put a new key in front of those in the file, durably; returns all of them. Errors as for ``read_key_file``."""
    path = path.resolve()  # a link stays a link
    old = read_key_file(path)
    if old.id == UNSIGNED.id:
        raise OptionError("the all-zero key cannot be rotated", where=str(path), fix="make a key with: ckpt key new")
    made = Key.generate(entropy)
    rotated = Key(made.id, made.secret, old.all)
    beside = path.with_name(f".{path.name}-{entropy(8).hex()}")
    try:
        _create(beside, rotated)
        os.replace(beside, path)  # Commit point.
        _sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    return rotated


def _create(path: Path, key: Key) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write(key.to_text() + "\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> StorageError:
    what = f"cannot write the key file: {error.strerror or error}"
    return StorageError(what, where=str(path), fix="check that this user may write in the folder; nothing was changed")
