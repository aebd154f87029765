"""Every example, killed with SIGKILL in the middle and started again, prints what an uninterrupted run prints."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from crash.harness import TESTS, Attempt, Script, collect

SITE = "(the site of this test)"
PAGES = 400
EXAMPLES = {
    "simulation.py": ("--steps", "12000", "--size", "120"),
    "train_digits.py": ("--epochs", "40"),
    "etl_stdlib.py": ("--files", "250"),
    "etl_output.py": ("--files", "250"),
    "open_script.py": ("--rounds", "6000", "--darts", "1000"),
    "crawler.py": ("--site", SITE),
    "ledger.py": ("--transfers", "6000"),
}
FOLDER = TESTS.parent / "examples"
ENDLESS = 60


def started(store: Path) -> bool:
    """Whether the run has its first segment: from here on a kill has something to lose."""
    return any(store.glob("*/*/log/*.log"))


def kill_once(script: Script, delay_s: float) -> Attempt:
    """Start, wait until the run exists, wait ``delay_s`` more, kill."""
    process = script.start()
    for _ in range(100 * ENDLESS):
        if started(script.store) or process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(delay_s)
    process.kill()
    return collect(process)


class Site(ThreadingHTTPServer):
    """Pages that link to two others each, and take a moment. Counts what was asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: Counter[str] = Counter()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        self.server.asked[self.path] += 1
        number = int(self.path.strip("/") or 0)
        time.sleep(0.004)
        links = [f'<a href="/{one}">' for one in (2 * number + 1, 2 * number + 2) if one < PAGES]
        body = f"page {number}: {' '.join(links)} {'words ' * (number * 37 % 101)}".encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_killed_in_mid_run_prints_the_same(name: str, tmp_path: Path, site: Site) -> None:
    rng = random.Random(name)
    (tmp_path / "plain").mkdir()
    (tmp_path / "killed").mkdir()
    arguments = tuple(f"http://127.0.0.1:{site.server_port}" if one is SITE else one for one in EXAMPLES[name])
    plain = Script(FOLDER / name, tmp_path / "plain", arguments).run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    site.asked.clear()
    script = Script(FOLDER / name, tmp_path / "killed", arguments)
    attempts = [kill_once(script, rng.uniform(0.05, 0.4)) for _ in range(3)]
    assert any(attempt.killed for attempt in attempts), "it was too short to be killed"
    resumed = script.run()
    assert resumed.status == 0, resumed.err
    assert resumed.out == plain.out
    assert resumed.out.count("\n") == 1
    again = script.run()
    assert again.out == plain.out, "the finished run shows the same"
    kills = sum(attempt.killed for attempt in attempts)
    assert site.asked.total() <= PAGES + 8 * kills, "pages that were recorded were asked for again"


def test_all_examples_are_tested() -> None:
    elsewhere = {"paid_api.py", "etl_dask.py", "etl_ray.py"}  # in test_examples_map
    assert {path.name for path in FOLDER.glob("*.py")} == set(EXAMPLES) | elsewhere
