"""Validated options, and the only place that reads the environment.

``Options`` is what a job or a ``ckpt.open`` block was asked to do; ``from_environment`` fills what the caller left out.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ckpt.errors import OptionError

DEFAULT_STORE = ".ckpt"
DEFAULT_EVERY = "1%"
ON_CODE_CHANGE = ("resume", "warn", "fail", "fresh")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]i?)?B?")
_BYTES = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """``"30s"``, ``"5m"``, ``"1h30m"``, ``"250ms"`` -> seconds. OptionError for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise OptionError(f"{text!r} is not a duration", fix='write it like "30s", "5m" or "1h30m"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(text: str) -> int:
    """``"512MiB"``, ``"2GB"``, ``"4096"`` -> bytes. OptionError for anything else."""
    found = _SIZE.fullmatch(text.replace(" ", ""))
    if found is None:
        raise OptionError(f"{text!r} is not a size", fix='write it like "512MiB" or "2GB"')
    return int(float(found[1]) * _BYTES.get(found[2] or "", 1))


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be chosen for a run.

    ``every`` is a text (``"1%"``, ``"30s"``, ``"1000it"``) or a trigger object (None: CKPT_EVERY, else ``"1%"``); ``keep`` the number of checkpoints
    that stay (>= 1); ``sync`` is ``"always"`` or ``"interval:T"`` (an acknowledged operation may be lost for T);
    ``wait`` the seconds to wait for a live attempt of the same run to end (None: refuse at once);
    ``mtbf`` the mean time between failures, a text ("6h") or seconds, for ``every="auto"`` (None: as the log tells); ``memory_limit`` bytes, or a text
    ("2GiB"), that copies of the state may take: a larger state is stored while the job waits; ``validate``: every snapshot
    is read back and compared before a checkpoint names it.
    ``expect_at_least`` a position of the log ("42.7") that was seen before: a log that ends earlier is refused.
    """

    name: str | None = None
    store: Any = field(default=None, repr=False)
    every: Any = None
    keep: int = 2
    key: Callable[..., object] | str | None = None
    on_code_change: str = "warn"
    recreate: tuple[str, ...] = ()
    sync: str = "always"
    run_id: str | None = None
    fresh: bool = False
    wait: float | None = None
    progress: bool | None = None
    expect_at_least: str | None = None
    mtbf: str | float | None = None
    memory_limit: str | int | None = None
    validate: bool = False

    def __post_init__(self) -> None:
        self._check_kinds()
        if isinstance(self.recreate, str):
            raise OptionError("recreate is a text", fix=f"write recreate=({self.recreate!r},)")
        if not isinstance(self.keep, int) or self.keep < 1:
            raise OptionError(f"keep={self.keep!r} is not a number of checkpoints", fix="give 1 or more")
        if self.on_code_change not in ON_CODE_CHANGE:
            choices = ", ".join(map(repr, ON_CODE_CHANGE))
            raise OptionError(f"on_code_change={self.on_code_change!r} is unknown", fix=f"give one of {choices}")
        if self.wait is not None and not self.wait >= 0:
            raise OptionError(f"wait={self.wait!r} is not a number of seconds", fix="give 0 or more")
        self.sync_interval_s, self.mtbf_s, self.memory_limit_bytes  # noqa: B018 - validates

    def _check_kinds(self) -> None:
        is_place = isinstance(self.store, str | os.PathLike | None) or hasattr(self.store, "open_root")
        if not is_place:
            raise OptionError(f"store={self.store!r} is no place", fix="give a path, a URL or a ckpt.Store")
        if self.key is not None and not isinstance(self.key, str) and not callable(self.key):
            raise OptionError(
                f"key={self.key!r} identifies no run",
                fix='give a text (key="mine") or a function of the arguments (key=lambda ...: ...)',
            )
        for name in ("name", "run_id"):
            if not isinstance(getattr(self, name), str | None):
                raise OptionError(f"{name}={getattr(self, name)!r} is not a text", fix=f'write {name}="..."')

    @property
    def sync_interval_s(self) -> float:
        """Seconds for which an acknowledged operation may stay volatile; 0 with ``sync="always"``."""
        if self.sync == "always":
            return 0.0
        kind, _, text = self.sync.partition(":")
        if kind != "interval":
            raise OptionError(f"sync={self.sync!r} is unknown", fix='give "always" or "interval:1s"')
        try:
            return parse_duration(text)
        except OptionError as error:
            raise OptionError(f"sync={self.sync!r} is unknown: {error.what}", fix=error.fix) from None

    @property
    def mtbf_s(self) -> float | None:
        """Mean time between failures, seconds; None if it was not said."""
        wrong = OptionError(f"mtbf={self.mtbf!r} is not a time between failures", fix='write it like mtbf="6h"')
        try:
            seconds = parse_duration(self.mtbf) if isinstance(self.mtbf, str) else self.mtbf
        except OptionError:
            raise wrong from None
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise wrong
        return seconds

    @property
    def memory_limit_bytes(self) -> int | None:
        """Bytes that copies of the state may take; None: as many as they need."""
        limit = parse_size(self.memory_limit) if isinstance(self.memory_limit, str) else self.memory_limit
        if limit is not None and not limit > 0:
            raise OptionError(f"memory_limit={self.memory_limit!r} is no limit", fix='write it like memory_limit="2GiB"')
        return limit

    def changed(self, **given: Any) -> Options:
        """A copy with the options that are not None replaced."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


_MEANT = {"retry": "retries"}
"""What is meant by a name that looks more like another one."""


def check_names(given: Iterable[str], known: Iterable[str], of: str) -> None:
    """OptionError for an option of ``of`` (``@ckpt.job``, say) that there is not, naming those that there are."""
    choices = sorted(known)
    for name in given:
        if name not in choices:
            import difflib

            near = [_MEANT[name]] if _MEANT.get(name) in choices else difflib.get_close_matches(name, choices, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise OptionError(f"{of} has no option {name!r}{meant}", fix=f"give some of {', '.join(choices)}")


STEP_OPTIONS = ("name", "key", "retries", "backoff", "retry_on", "record_errors")


def check_step_options(options: Mapping[str, Any]) -> None:
    """OptionError for what ``ckpt.step`` does not take."""
    check_names(options, STEP_OPTIONS, "ckpt.step")
    retries, backoff = options.get("retries", 0), options.get("backoff", 1.0)
    if not isinstance(retries, int) or retries < 0:
        raise OptionError(f"retries={retries!r} is not a number of tries", fix="give 0 or more")
    if not isinstance(backoff, int | float) or not backoff >= 0:
        raise OptionError(f"backoff={backoff!r} is not a number of seconds", fix="give 0 or more")
    retry_on = options.get("retry_on", ())
    for kind in retry_on if isinstance(retry_on, tuple) else (retry_on,):
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise OptionError(f"retry_on names {kind!r}, which is no exception", fix="write retry_on=(OSError,)")


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine: an ``async def``, a partial of one, or an object with an async ``__call__``."""
    import inspect

    while isinstance(function, functools.partial):
        function = function.func
    if getattr(function, "__ckpt_async__", False) or inspect.iscoroutinefunction(function):
        return True
    called = inspect.getattr_static(type(function), "__call__", None)
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(called)


def _seconds_of(variable: str, default: float) -> float:
    """The seconds that an environment variable says. OptionError if it is no number above 0."""
    text = os.environ.get(variable) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise OptionError(f"{variable}={text!r} is not a number of seconds", fix="give a number above 0")
    return seconds


def trial_store(folder: str) -> str:
    """Where the runs of the trial in ``folder`` are stored."""
    return os.path.join(folder, "store")


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment variables say, read once per job call."""

    disabled: bool
    store: str | None = field(repr=False)
    every: str | None
    key: str | None = field(repr=False)
    progress: bool
    pulse: str | None
    pulse_every_s: float
    encrypt: bool = False
    trial: str | None = None
    fork: str | None = None

    @classmethod
    def read(cls) -> Environment:
        get = os.environ.get
        return cls(
            disabled=get("CKPT_DISABLE", "") not in ("", "0"),
            store=get("CKPT_STORE") or None,
            every=get("CKPT_EVERY") or None,
            key=get("CKPT_KEY") or None,
            progress=get("CKPT_PROGRESS", "") not in ("", "0"),
            pulse=get("CKPT_PULSE") or None,
            pulse_every_s=_seconds_of("CKPT_PULSE_EVERY", 1.0),
            encrypt=get("CKPT_ENCRYPT", "") not in ("", "0"),
            trial=get("CKPT_TRIAL") or None,
            fork=get("CKPT_FORK") or None,
        )

    def fork_of(self, job: str, run_id: str) -> str | None:
        """The id of the fork that is to go on where the program calls this run: ``ckpt resume`` of a fork says so.

        ``CKPT_FORK`` is ``job/run_id=id of the fork``.
        """
        address, _, fork = (self.fork or "").rpartition("=")
        return fork if address == f"{job}/{run_id}" else None

    def apply(self, options: Options) -> Options:
        """Fill ``store``, ``every`` and ``progress`` where the program says nothing.

        In a trial (``ckpt bench``) the store is the trial's, whatever the program says: no run of its own is touched.
        """
        default = "auto" if options.mtbf is not None else self.every or DEFAULT_EVERY
        chosen = options.store if options.store is not None else self.store or DEFAULT_STORE
        return replace(
            options,
            store=chosen if self.trial is None else trial_store(self.trial),
            every=options.every if options.every is not None else default,
            progress=options.progress if options.progress is not None else self.progress,
        )
