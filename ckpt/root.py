"""The root of a store: what makes a place a store, and the key that its runs are signed with.

Guarantees: a store's format and id are written once and never change; a local store gets a secret key of its own
(mode 0600) when it is made, and never silently another one; nobody uses a shared store unsigned without having said so;
a storage that is not local is tried for exclusive creation before this process writes there. Whether a store is
encrypted is decided when it is made, and holds for all that is ever written there.

On disk: ``FORMAT`` (JSON: ``{"format": 1, "store": hex id}``, with ``"encryption": "AES-256-GCM"`` where the store is
encrypted; created once), and for local stores ``key`` (64 hexadecimal digits a line) and ``.gitignore`` (a store never
belongs into a repository). The key is there before FORMAT is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ckpt import host
from ckpt.errors import (
    CorruptionError,
    MissingKeyError,
    OptionError,
    RunNotFoundError,
    StorageError,
    UnknownFormatError,
    UntrustedError,
)
from ckpt.format import cipher
from ckpt.format.keys import STORE_ID_SIZE, UNSIGNED, Key
from ckpt.format.names import FORMAT_KEY, SECRET_KEY, parse_job
from ckpt.format.segment import HEADER_SIZE, origin_of
from ckpt.keyfile import parse_key_file, read_key_file
from ckpt.protocols import Storage
from ckpt.storage import LocalStorage, is_in_process, local_path, resolve
from ckpt.storage.probe import PROBE_PREFIX, probe
from ckpt.storage.secrets import Redactor

FORMAT_VERSION = 1
IGNORE_FILE = ".gitignore"

_OWN = frozenset({FORMAT_KEY, SECRET_KEY, IGNORE_FILE})
_MAX_FORMAT_SIZE = 4096

_probed: set[str] = set()
_probing = threading.Lock()


@dataclass(frozen=True, slots=True)
class StoreRoot:
    """An open store: where its keys live, what signs them, its id (32 hexadecimal digits) and its address.

    ``key`` is bound to the store: what was signed for another one does not verify, even under the same secret.
    ``redact`` takes the credentials that reach the store out of a text.
    """

    storage: Storage
    key: Key
    store_id: str
    url: str
    redact: Callable[[str], str] = field(repr=False, compare=False)

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        key: Key | str | os.PathLike[str] | None = None,
        unsigned: bool = False,
        encrypt: bool = False,
        create: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> StoreRoot:
        """The store at ``url`` (see ``storage.resolve``), made if it is not there; without ``create`` only read.

        ``key`` is a key, its text, or the path of a file with its text; without one a local store uses its own, and a
        shared one wants ``unsigned``, which gives up the protection from forged runs, and warns each time. ``encrypt``
        makes a new store an encrypted one, and refuses one that is not. When this returns, the store's id and key are
        durable.

        Raises RunNotFoundError (no store there, without ``create``), UntrustedError (no key, or one that others can
        read), UnknownFormatError, CorruptionError (FORMAT unreadable or lost), OptionError (bad address or key, or a
        folder of other things; ``encrypt`` for a store that is not, or without the package for it),
        UnsupportedStorageError, StorageError.
        """
        storage = resolve(url, storage_options)
        given = None if key is None else _given_key(key)
        stored = _read_format(storage)
        if stored is None and not create:
            fix = "check the address (CKPT_STORE, --store), or start a job there"
            raise RunNotFoundError("there is no ckpt store", where=storage.url, fix=fix)
        if create:
            _check_safe(storage, storage_options or {})
        others = [] if stored else _foreign(storage)
        if others and (stored := _read_format(storage)) is None:  # else somebody made the store just now
            raise _not_a_store(storage, others)
        chosen = given or _stored_key(storage, unsigned=unsigned, create=create)
        _check_signed(chosen, storage, unsigned=unsigned)
        if encrypt and chosen.id == UNSIGNED.id:
            raise OptionError("an unsigned store cannot be encrypted", where=storage.url, fix="set CKPT_KEY")
        if encrypt:
            cipher.check_available()
        if stored is None:
            stored = _create_format(storage, encrypt=encrypt)
        if encrypt and not stored.encrypted:
            what = "the store is not encrypted, and encrypt=True (CKPT_ENCRYPT) asks for one that is"
            fix = "use a new store: whether one is encrypted is decided when it is made"
            raise OptionError(what, where=storage.url, fix=fix)
        bound = chosen.of_store(bytes.fromhex(stored.store_id), encrypts=stored.encrypted)
        redact = Redactor(os.fspath(url), storage_options)
        return cls(storage, bound, stored.store_id, storage.url, redact)


@dataclass(frozen=True, slots=True)
class _Format:
    """What FORMAT says."""

    store_id: str
    encrypted: bool


@runtime_checkable
class OpensRoot(Protocol):
    """What knows by itself how its store is to be opened: ``ckpt.Store``."""

    def open_root(self, *, create: bool) -> StoreRoot:
        """The open store. Errors as for ``StoreRoot.open``."""


def job_folders(storage: Storage) -> list[str]:
    """The quoted names of the jobs that have anything in the store, sorted."""
    return [name for name in storage.children("") if parse_job(name) is not None]


def _read_format(storage: Storage) -> _Format | None:
    """What the store is; None if there is no store yet. CorruptionError, UnknownFormatError, StorageError."""
    try:
        text = storage.get(FORMAT_KEY, 0, _MAX_FORMAT_SIZE)
    except MissingKeyError:
        return None
    fix = "put the store's own FORMAT file back from a backup; it never changes"
    try:
        content = json.loads(text)
        version, store_id, encryption = content["format"], content["store"], content.get("encryption")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptionError("the store's FORMAT cannot be read", path=FORMAT_KEY, fix=fix) from error
    if type(version) is int and version > FORMAT_VERSION:
        what = f"the store has format {version}, and this ckpt knows formats up to {FORMAT_VERSION}"
        raise UnknownFormatError(what, where=storage.url, fix="install a newer ckpt")
    if version != FORMAT_VERSION or type(version) is not int or not _is_id(store_id):
        raise CorruptionError("the store's FORMAT makes no sense", path=FORMAT_KEY, fix=fix)
    if encryption not in (None, cipher.ALGORITHM):
        what = f"the store is encrypted with {str(encryption)[:40]!r}, which this ckpt does not know"
        raise UnknownFormatError(what, where=storage.url, fix="install a newer ckpt")
    return _Format(str(store_id), encryption is not None)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 2 * STORE_ID_SIZE and set(value) <= set("0123456789abcdef")


def _create_format(storage: Storage, *, encrypt: bool) -> _Format:
    """Make the place a store, unless somebody else just did; returns what the winner made."""
    if local_path(storage) is not None:
        storage.put_if_absent(IGNORE_FILE, b"*\n")
    text = _format_text(host.entropy(STORE_ID_SIZE).hex(), encrypt=encrypt)
    storage.put_if_absent(FORMAT_KEY, (text + "\n").encode())  # Commit point.
    stored = _read_format(storage)
    if stored is None:
        fix = "use a storage that shows at once what was written"
        raise StorageError("FORMAT was written and is not there", where=storage.url, fix=fix)
    return stored


def _format_text(store_id: str, *, encrypt: bool) -> str:
    encryption = {"encryption": cipher.ALGORITHM} if encrypt else {}
    return json.dumps({"format": FORMAT_VERSION, "store": store_id, **encryption})


def _check_safe(storage: Storage, options: Mapping[str, Any]) -> None:
    """Once per process: does a storage that is not this process's or this machine's own create exclusively?"""
    if local_path(storage) is not None or is_in_process(storage):
        return
    place = f"{storage.url} {sorted(options.items())!r}"  # one address may mean another server with other options
    with _probing:
        if place not in _probed:
            probe(storage)
            _probed.add(place)


def _foreign(storage: Storage) -> list[str]:
    """What is at the place besides the things that a store being made consists of."""
    return [name for name in storage.children("") if name not in _OWN and not name.startswith(PROBE_PREFIX)]


def _not_a_store(storage: Storage, others: list[str]) -> CorruptionError | OptionError:
    shown = ", ".join(others[:3])
    lost = _lost_format(storage)
    if lost or storage.exists(SECRET_KEY):
        fix = "put the store's own FORMAT file back from a backup; it never changes" + (f"; it was: {lost}" if lost else "")
        return CorruptionError(f"the store has runs ({shown}) but no FORMAT", path=FORMAT_KEY, fix=fix)
    what = f"this place is not a ckpt store and holds other things ({shown})"
    fix = "give an empty or a new place; if it was a store, put its FORMAT file back from a backup"
    return OptionError(what, where=storage.url, fix=fix)


def _lost_format(storage: Storage) -> str | None:
    """What FORMAT must have said, as the segments of the runs have it; None if there are none. Not verified."""
    for job in job_folders(storage):
        for key in storage.list(f"{job}/"):
            if key.endswith(".log") and (origin := origin_of(storage.get(key, 0, HEADER_SIZE))):
                return _format_text(origin[0].hex(), encrypt=origin[1])
    return None


def _given_key(key: Key | str | os.PathLike[str]) -> Key:
    """The key that a caller named. A text that is the path of a file means what the file says."""
    if isinstance(key, Key):
        return key
    path = Path(key).expanduser()
    if isinstance(key, str) and not _is_file(path):
        return Key.parse(key)
    return read_key_file(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that cannot be a path at all
        return False


def _stored_key(storage: Storage, *, unsigned: bool, create: bool) -> Key:
    """The store's own key, made if the store has no runs yet; UNSIGNED or an error for stores that have none."""
    folder = local_path(storage)
    if folder is None and not is_in_process(storage):
        if unsigned:
            return UNSIGNED
        raise UntrustedError(
            "a shared store needs a key, so that nobody else can plant code in it",
            where=storage.url,
            fix="set CKPT_KEY (make one with: ckpt key new --out FILE), or say unsigned=True if everyone there is trusted",
        )
    if not storage.exists(SECRET_KEY):
        # Whoever makes a store makes its key first: once runs are visible, an existing key is visible too.
        if (not create or job_folders(storage)) and not storage.exists(SECRET_KEY):
            raise UntrustedError(
                "the store's key is missing",
                where=f"{storage.url}/{SECRET_KEY}",
                fix="put the key file back from a backup, or give its text as CKPT_KEY",
            )
        text = (Key.generate(host.entropy).to_text() + "\n").encode()
        if folder is None:
            storage.put_if_absent(SECRET_KEY, text)
        else:
            LocalStorage(folder).create_private(SECRET_KEY, text)
    # Not the key just made: of several makers one has won, and all use the winner's.
    return (
        parse_key_file(storage.get(SECRET_KEY), SECRET_KEY) if folder is None else read_key_file(folder / SECRET_KEY)
    )


def _check_signed(key: Key, storage: Storage, *, unsigned: bool) -> None:
    """UNSIGNED only for those who asked for it by name, and not without a word."""
    if key.secret != UNSIGNED.secret:
        return
    if not unsigned:
        what = "the all-zero key protects nothing"
        raise UntrustedError(what, where=storage.url, fix="make a key with: ckpt key new, or say unsigned=True")
    # Not warnings.warn: that shows what comes from one line once, and then never again.
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ckpt":
        frame = frame.f_back
    warnings.warn_explicit(
        f"the store {storage.url} is unsigned: whoever can write there can run code in every process that resumes "
        "from it; set CKPT_KEY to sign it",
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
    )
