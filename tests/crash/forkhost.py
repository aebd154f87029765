"""A process that has imported everything once and forks one real process for each attempt at a form.

Starting Python and importing numpy takes a third of a second; a fork takes a few milliseconds. So every tick of every
form can be killed. The attempt is a process of its own: SIGKILL, file locks and memory are the real thing.

Protocol: one JSON object per line on standard input ({"form", "env", "cwd", "out", "err"}, and "after_s" if it is to be
killed after so many seconds), one exit status per line on standard output (negative: the signal that ended it). A form
whose module fails to import is reported at its attempt.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import select
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import ckpt

LIMIT_S = 60  # a child that lives longer hangs: SIGALRM ends it


def load_forms() -> dict[str, str]:
    """Import all forms; returns what went wrong, by module."""
    failures = {}
    programs = Path(__file__).parent.parent / "programs"
    for path in sorted([*programs.glob("forms_*.py"), *programs.glob("jobs_*.py")]):
        try:
            importlib.import_module(f"programs.{path.stem}")
        except Exception:  # noqa: BLE001 - whatever it is, it is reported at the attempt
            failures[path.stem] = traceback.format_exc()
    own = pkgutil.walk_packages(ckpt.__path__, "ckpt.")
    lazy = [module.name for module in own if not re.search(r"__main__|\.cli|\.integrations|\.contract", module.name)]
    for name in ["numpy", "cloudpickle", *lazy]:
        try:
            importlib.import_module(name)
        except (ModuleNotFoundError, ckpt.errors.OptionError) as missing:
            if (getattr(missing, "name", None) or "").split(".")[0] == "ckpt":
                raise  # anything else is of an extra that no form uses
    return failures


def attempt(request: dict[str, object], failures: dict[str, str]) -> int:
    """Runs in the forked child: the form's result or its traceback, and the exit status."""
    from programs.bits import report
    from programs.registry import FORMS
    from programs.ticks import seen

    from ckpt.testing import install_from_environment

    plan = install_from_environment()
    name = str(request["form"])
    if name not in FORMS:
        print("\n".join(failures.values()) or f"no form {name}", file=sys.stderr)
        return 3
    try:
        report(FORMS[name]())
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:  # noqa: BLE001 - as an interpreter would end a script
        traceback.print_exc()
        return 1
    print(f"TICKS {seen()}", flush=True)
    for operation, key in plan.calls if plan is not None else ():
        print(f"CALL {operation} {key}")
    return 0


def leave(status: int) -> NoReturn:
    """End the child as an interpreter ends, but without taking a hundred modules apart, which takes most of the time."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def kill_after(seconds: float, pid: int) -> None:
    """Kill the child ``pid`` if it is still there after ``seconds``."""
    ended = os.pidfd_open(pid)
    if not select.select([ended], [], [], seconds)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(ended)


def serve() -> int:
    failures = load_forms()
    gc.freeze()  # what is here now is never collected in a child, which would copy every page of it
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIMIT_S)
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            for target, number in ((request["out"], 1), (request["err"], 2)):
                os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            leave(attempt(request, failures))
        if "after_s" in request:
            kill_after(request["after_s"], pid)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve())
