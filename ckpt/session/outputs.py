"""How output files, and writers of ``csv`` on them, go into a state. Stored pickles name the ``find`` and ``make`` functions."""

from __future__ import annotations

import csv
import gc
import types
from collections.abc import Callable
from typing import Any

from ckpt.errors import CkptError, UncapturableError
from ckpt.format.names import RunNames
from ckpt.history import FORK, History
from ckpt.log import LogWriter
from ckpt.outputs import Output, Outputs, Owner, Settings
from ckpt.outputs.registry import closed_output, tag_of
from ckpt.root import StoreRoot
from ckpt.session import current

_CSV_WRITER = type(csv.writer(types.SimpleNamespace(write=len)))
_FORMAT = ("delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting", "skipinitialspace", "strict")


def outputs_of(root: StoreRoot, names: RunNames, log: LogWriter, history: History, *, over: bool) -> Outputs:
    """The outputs of a new attempt."""
    origin = next((str(one.head[FORK]).rpartition("@")[0] for one in history.starts if FORK in one.head), "")
    return Outputs(
        _owner(root, names, origin),
        over=over,
        new_tag=lambda: tag_of(log.epoch),
        check_current=log.check_current,
        may_write=current.in_order,
    )


def tidy_outputs(root: StoreRoot, names: RunNames, listed: list[list[Any]]) -> None:
    """Let go of the outputs of a finished run, should it have died between its last record and that."""
    Outputs(
        _owner(root, names), over=True, new_tag=lambda: "", check_current=lambda: None, may_write=lambda: False
    ).tidy(listed)


def _owner(root: StoreRoot, names: RunNames, fork_of: str = "") -> Owner:
    def is_gone(address: str) -> bool:
        try:
            return not root.storage.list(RunNames.parse(address).log_prefix)
        except CkptError:
            return False  # not known: it is taken to be there

    return Owner(names.address, root.store_id, root.url, fork_of, is_gone)


def reducer_of(kind: type) -> Callable[[Any], Any] | None:
    """How objects of this type go into a state, if it is one of those that this module knows."""
    if kind is Output:
        return _reduce_output
    return _reduce_csv_writer if kind is _CSV_WRITER else None


def _reduce_output(value: Output) -> Any:
    return find_output, (value.name, value.settings.values())


def find_output(name: str, settings: list[Any]) -> Output:
    """The output of the run that is being resumed; where there is none (in a recorded result), a closed one."""
    run = current.run_of_process()
    return closed_output(name, Settings(*settings)) if run is None else run.outputs.find(name, Settings(*settings))


def _reduce_csv_writer(value: Any) -> Any:
    """A ``csv.writer`` is a format and the ``write`` method of what it writes to."""
    methods = [one for one in gc.get_referents(value) if isinstance(one, types.MethodType | types.BuiltinMethodType)]
    if len(methods) != 1:
        raise UncapturableError("a csv.writer on something without a write method", fix="make it on a ckpt.output(path)")
    return make_csv_writer, (methods[0].__self__, {name: getattr(value.dialect, name) for name in _FORMAT})


def make_csv_writer(target: Any, form: dict[str, Any]) -> Any:
    return csv.writer(target, **form)
