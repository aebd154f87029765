"""What is to be run, and whether that is still what the log says of the run: its arguments, its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt import events, host
from ckpt.capture import fingerprint
from ckpt.errors import ArgumentsChangedError, CodeChangedError
from ckpt.format.names import RunNames
from ckpt.history import History
from ckpt.log import LogView
from ckpt.protocols import Clock
from ckpt.settings import Environment, Options

MIXED = "the rest runs with the new code"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: the run's names, its options, the digests of its code, and a short text of its arguments.

    ``argument_digests`` (hexadecimal, by name) are those that all attempts of the run have to have in common.
    ``instead_of``: the address of the run that the program calls, where a fork of it goes on (``ckpt resume``).
    """

    names: RunNames
    options: Options
    environment: Environment
    code: Mapping[str, str]
    arguments: str
    argument_digests: Mapping[str, str]
    captures_locals: bool
    instead_of: str = ""
    clock: Clock = field(default_factory=host.SystemClock)
    entropy: Callable[[int], bytes] = host.entropy


def check_arguments(plan: Plan, view: LogView, history: History) -> None:
    """ArgumentsChangedError if what counts of the log was begun with other arguments.

    The earliest record that names arguments decides: the FENCE of an attempt that died before it could start the run
    afresh, with new arguments, comes behind it.
    """
    heads = (record.head for record in view.records if record.lsn >= history.began_lsn)
    first = next((head for head in heads if head.get("argument_digests")), None)
    before = first["argument_digests"] if first is not None else {}
    changed = [name for name, digest in plan.argument_digests.items() if before.get(name, digest) != digest]
    if first is None or not changed:
        return
    raise ArgumentsChangedError(
        f"the run was started with other values of {', '.join(changed)}: "
        f"with {first['arguments']}, and now it is called with {plan.arguments}",
        where=plan.names.address,
        fix="give it another run_id (or key), or run it afresh: f.options(fresh=True)(...); "
        "if not all arguments matter, say which ones do: @ckpt.job(key=lambda ...: ...)",
    )


def code_asks_for_fresh(plan: Plan, head: Mapping[str, Any], since: str, meaning: str) -> bool:
    """Compare the code with what a record names and do what ``on_code_change`` says; True to start afresh."""
    if not plan.captures_locals:
        return False
    changed = fingerprint.changed(head.get("code", {}), dict(plan.code))
    if not changed:
        return False
    names = ", ".join(changed)
    choice = plan.options.on_code_change
    if choice == "fail":
        raise CodeChangedError(
            f"the code of {names} changed since {since}",
            changed=changed,
            where=plan.names.address,
            fix='put the old code back, or choose on_code_change="resume" or "fresh"',
        )
    if choice == "fresh":
        events.say(f"{plan.names.address}: the code of {names} changed; starting afresh")
        return True
    if choice == "warn":
        events.say(
            f"{plan.names.address}: the code of {names} changed since {since}; "
            f'{meaning} (on_code_change="fail" or "fresh" chooses otherwise; f.options(fresh=True)(...) runs it afresh)'
        )
    return False
