"""What is to be run, and whether that is still what the log says of the run: its arguments, its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt import events, host
from ckpt.capture import fingerprint
from ckpt.errors import ArgumentsChangedError, CodeChangedError
from ckpt.format.names import RunNames
from ckpt.history import FORK, IDENTIFIED_BY, History
from ckpt.log import LogView
from ckpt.protocols import Clock
from ckpt.settings import Environment, Options

MIXED = "the rest runs with the new code"

_ALL = "its arguments"
_SHOWN = 12
"""Digits of a digest that are shown to people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: the run's names, its options, the digests of its code, and a short text of its arguments.

    ``argument_digests`` (hexadecimal, by name) are those that all attempts of the run have to have in common.
    ``identify`` computes 16 digits of the digest of what identifies the run where it has its name from its arguments: that
    name. A run of another name has to have them in common with the run that it is a fork of.
    ``instead_of``: the address of the run that the program calls, where a fork of it goes on (``ckpt resume``).
    """

    names: RunNames
    options: Options
    environment: Environment
    code: Mapping[str, str]
    arguments: str
    argument_digests: Mapping[str, str]
    captures_locals: bool
    identify: Callable[[], str] = str
    instead_of: str = ""
    clock: Clock = field(default_factory=host.SystemClock)
    entropy: Callable[[int], bytes] = host.entropy

    @property
    def is_named_by_arguments(self) -> bool:
        """Whether other arguments would have been another run."""
        return self.captures_locals and not self.options.run_id and not isinstance(self.options.key, str)


def check_arguments(plan: Plan, view: LogView, history: History) -> str:
    """ArgumentsChangedError if what counts of the log was begun with other arguments; else what identifies it there.

    The earliest record that names arguments decides: the FENCE of an attempt that died before it could start the run
    afresh, with new arguments, comes behind it.
    """
    heads = (record.head for record in view.records if record.lsn >= history.began_lsn)
    first = next((head for head in heads if head.get("argument_digests") or head.get(IDENTIFIED_BY)), {})
    identity = str(first.get(IDENTIFIED_BY, ""))
    before, now = first.get("argument_digests", {}), plan.argument_digests
    if not before and identity and not plan.is_named_by_arguments:  # a fork, under a name of its own
        before, now = {_ALL: identity}, {_ALL: plan.identify()}
    changed = {name: (before[name], digest) for name, digest in now.items() if before.get(name, digest) != digest}
    if changed:
        raise _arguments_changed(plan, first, changed)
    return identity


def _arguments_changed(
    plan: Plan, first: Mapping[str, Any], changed: Mapping[str, tuple[str, str]]
) -> ArgumentsChangedError:
    then = first["arguments"]
    texts = f"with {then}, and now it is called with {plan.arguments}"
    if then == plan.arguments:
        differ = ", ".join(f"{name}: {old[:_SHOWN]} then, {new[:_SHOWN]} now" for name, (old, new) in changed.items())
        texts = f"with {then}, which looks the same now, and has other contents (digests of {differ})"
    origin = f"call it with the arguments of the run that it is a fork of ({first[FORK]}), or " if FORK in first else ""
    return ArgumentsChangedError(
        f"the run was started with other values of {', '.join(changed)}: {texts}",
        where=plan.names.address,
        fix=f"{origin}give it another run_id (or key), or run it afresh: f.options(fresh=True)(...); "
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
