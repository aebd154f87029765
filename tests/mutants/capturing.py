"""The protecting lines of what is captured, and of what is refused instead."""

from __future__ import annotations

from mutants.mutant import Mutant

_EXACT = "test_killed_at_any_tick_the_result_is_the_same"
_REFUSED = "test_is_refused_at_the_first_safe_point_by_name"


def _form(name: str) -> str:
    return f"tests/crash/test_control_flow.py::{_EXACT}[{name}]"


def _job(name: str) -> str:
    return f"tests/crash/test_refusals.py::{_REFUSED}[{name}]"


CAPTURING = (
    Mutant(
        "a result that waits for a finally block comes apart from the variables", "1", "capture/held.py",
        "        left = [*parent.body, *parent.handlers, *parent.orelse]\n", "        pass\n",
        _form("job_that_returns_through_a_finally_with_a_loop"), _EXACT,
    ),
    Mutant(
        "an exception that waits is not looked at", "2", "capture/state.py",
        "            waits = [sys.exception()] if EXCEPTION in held[number] else []\n", "            waits: list[Any] = []\n",
        _job("holds_an_exception_that_waits_for_finally-waits"), _REFUSED,
    ),
    Mutant(
        "the exit of a with statement has no place in the source", "1", "capture/source.py",
        "node.items[0].context_expr if isinstance(node, ast.With | ast.AsyncWith) else node", "node",
        _form("results_and_exceptions_that_wait_for_a_loop"), _EXACT,
    ),
    Mutant(
        "a generator of the process comes back as a copy", "1", "capture/rebuild.py",
        "        return reduce_generator_of_process\n", "        pass\n",
        _form("methods_of_generators_of_the_process_in_variables"), _EXACT,
    ),
    Mutant(
        "a child process comes back without a word", "2", "capture/rebuild.py",
        "    return refuse_process if is_process(kind) else None\n", "    return None\n",
        _job("captures_a_child_process-child"), _REFUSED,
    ),
)  # fmt: skip
