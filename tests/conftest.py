"""What all tests share: the test helpers' import path, scratch folders and the fork host."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

pytest_plugins = ["servers.fixtures"]

hypothesis.settings.register_profile("tests", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("tests")
if os.environ.get("CKPT_TEST_MUTANT"):  # that a test fails is all that is asked: the smallest example takes too long
    hypothesis.settings.register_profile("mutant", phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate))
    hypothesis.settings.load_profile("mutant")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job; the jobs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

MAY_BE_MISSING = ("torch",)
"""Packages that ``[dev]`` does not install, because of their size; tests that need them are skipped everywhere."""


def _required(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CKPT_TEST_REQUIRE=all a skipped test has failed: what it needs (a mount, a server) should be there."""
    if not report.skipped or os.environ.get("CKPT_TEST_REQUIRE") != "all" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(f"could not import '{name}" in reason for name in MAY_BE_MISSING):
        report.outcome = "failed"
        report.longrepr = f"CKPT_TEST_REQUIRE=all: {report.nodeid} must not be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _required(report)
    return report


@pytest.fixture(scope="session")
def fork_host() -> Iterator[object]:
    """One warmed-up interpreter that forks a process per attempt at a form."""
    from crash.harness import ForkHost

    host = ForkHost()
    yield host
    host.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: thousands of small stores are written and thrown away."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="ckpt-tests-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
