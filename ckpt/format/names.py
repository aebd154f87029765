"""Every key name in a store is built and parsed here, and nowhere else.

    FORMAT                                       what the store is (root)
    key                                          a local store's key (root)
    <job>/<run_id>/log/<slot, 20 digits>.log     segments; slots are numbered from 1
    <job>/<run_id>/pack/<epoch>-<n>.pack         packs of chunks
    <job>/<run_id>/pack/<epoch>-<n>@<origin>.pack  packs that a fork shares: made for the run <origin> of the same job
    <job>/<run_id>/floor                         lowest live slot
    <job>/<run_id>/lock                          local stores: the lease
    <job>/<run_id>/damaged/<slot>/...            what a repair kept aside; no reader looks there

A job's name may be any text: it is percent-quoted into one path element, reversibly. Run ids are names already.
Key names are plain ASCII, sort in slot order, and never contain ``..`` or an empty element.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from ckpt.errors import OptionError

FORMAT_KEY = "FORMAT"
SECRET_KEY = "key"
FIRST_SLOT = 1

_NAME = re.compile(r"[A-Za-z0-9._+-]{1,200}\Z")
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_RESERVED = frozenset({FORMAT_KEY.lower(), SECRET_KEY.lower()})
_SEGMENT = re.compile(r"([0-9]{20})\.log\Z")
_PACK = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})\.pack\Z")
_SHARED = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})@([A-Za-z0-9_+-][A-Za-z0-9._+-]{0,199})\.pack\Z")
_MAX_QUOTED = 200


def check_name(text: str) -> str:
    """``text`` if it can be a path element as it is: 1 to 200 of A-Z a-z 0-9 . _ + -, no dot first. OptionError."""
    if not _NAME.match(text) or text.startswith("."):
        raise OptionError(
            f"{text!r} cannot be a name",
            fix="use 1 to 200 of the characters A-Z a-z 0-9 . _ + - and no dot at the start",
        )
    return text


@functools.lru_cache(maxsize=256)
def quote_job(job: str) -> str:
    """The path element of a job: what is not A-Z a-z 0-9 . _ + - becomes %XX of its UTF-8. OptionError if too long."""
    try:
        raw = job.encode()
    except UnicodeEncodeError:
        raise OptionError(f"the job name {job!r} is not valid Unicode", fix="give the job another name=") from None
    # A leading dot would be hidden, or climb; a reserved name would collide with a file of the store's root.
    quote_first = job.startswith(".") or job.lower() in _RESERVED
    quoted = "".join(
        chr(byte) if byte in _SAFE and not (quote_first and i == 0) else f"%{byte:02X}" for i, byte in enumerate(raw)
    )
    if not 0 < len(quoted) <= _MAX_QUOTED:
        raise OptionError(
            f"the job name {job[:40]!r} is empty or too long (quoted {len(quoted)} characters; at most {_MAX_QUOTED})",
            fix="give the job another name=",
        )
    return quoted


@functools.lru_cache(maxsize=256)
def parse_job(element: str) -> str | None:
    """The job whose path element this is; None if it is none (``FORMAT``, ``key``, files of others)."""
    if element.lower() in _RESERVED:
        return None
    try:
        job = unquote_to_bytes(element).decode()
        return job if quote_job(job) == element else None
    except (UnicodeError, OptionError):
        return None


def is_run_id(text: str) -> bool:
    """Whether ``text`` can be a run id (and so a folder of that name a run)."""
    return bool(_NAME.match(text)) and not text.startswith(".")


@dataclass(frozen=True, slots=True)
class RunNames:
    """The names of one run's keys. OptionError where job or run id cannot be names."""

    job: str
    run_id: str
    prefix: str = field(init=False)
    """Start of all keys of the run; ends with '/'. Derived."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"{quote_job(self.job)}/{check_name(self.run_id)}/")

    @classmethod
    def parse(cls, address: str) -> RunNames:
        """From ``job/run_id``; the job may contain '/'. OptionError if it is no address."""
        job, slash, run_id = address.rpartition("/")
        if not slash:
            raise OptionError(f"{address!r} is not the address of a run", fix="write it as job/run_id")
        return cls(job, run_id)

    @property
    def address(self) -> str:
        """``job/run_id``, for people."""
        return f"{self.job}/{self.run_id}"

    @property
    def log_prefix(self) -> str:
        return f"{self.prefix}log/"

    @property
    def pack_prefix(self) -> str:
        return f"{self.prefix}pack/"

    @property
    def floor(self) -> str:
        return f"{self.prefix}floor"

    @property
    def lock(self) -> str:
        return f"{self.prefix}lock"

    def damaged(self, slot: int) -> str:
        """Where the repair that began when ``slot`` was the next one keeps originals; ends with '/'."""
        return f"{self.prefix}damaged/{slot}/"

    def segment(self, slot: int) -> str:
        return f"{self.prefix}log/{slot:020d}.log"

    def parse_segment(self, key: str) -> int | None:
        """The slot of a segment's key of this run; None for any other key."""
        match = _SEGMENT.match(key, len(self.log_prefix)) if key.startswith(self.log_prefix) else None
        return int(match[1]) if match else None

    def pack(self, epoch: int, n: int) -> str:
        return f"{self.prefix}pack/{epoch}-{n}.pack"

    def parse_pack(self, key: str) -> tuple[int, int] | None:
        """(epoch, n) of a pack's key of this run; None for any other key. A shared one is older than all attempts: epoch 0."""
        if not key.startswith(self.pack_prefix):
            return None
        match = _PACK.match(key, len(self.pack_prefix))
        if match:
            return int(match[1]), int(match[2])
        shared = _SHARED.match(key, len(self.pack_prefix))
        return (0, int(shared[2])) if shared else None

    def shared_pack(self, pack: str) -> str:
        """The key under which this run, a fork, shares ``pack``, a pack of another run of the job."""
        origin, epoch, n = _made_as(pack)
        return f"{self.pack_prefix}{epoch}-{n}@{origin}.pack"


def pack_origin(pack: str) -> str:
    """The id of the run that the pack with this key was made by. ValueError if it is no pack's key."""
    return _made_as(pack)[0]


def pack_made_as(pack: str) -> str:
    """The key that the pack with this key was made under, which its header is signed for. ValueError if it is no pack's."""
    origin, epoch, n = _made_as(pack)
    job = pack.partition("/")[0]
    return f"{job}/{origin}/pack/{epoch}-{n}.pack"


def _made_as(pack: str) -> tuple[str, str, str]:
    """(run id, epoch, n) of the pack when it was made."""
    _, _, name = pack.partition("/")
    run_id, _, name = name.partition("/pack/")
    if match := _PACK.fullmatch(name):
        return run_id, match[1], match[2]
    if match := _SHARED.fullmatch(name):
        return match[3], match[1], match[2]
    raise ValueError(f"{pack!r} is no key of a pack")
