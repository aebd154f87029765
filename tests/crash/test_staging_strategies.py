"""However it is found out what changed since the last checkpoint: killed anywhere, the result is that of a plain run."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, finish

from ckpt.staging.pages import WrittenPages

FORM = "large_arrays_of_which_little_changes"


@pytest.mark.parametrize("strategy", ["copy", "compare", "pages", "streaming"])
def test_killed_at_any_tick_large_arrays_are_exact(strategy: str, fork_host: ForkHost, scratch: Path) -> None:
    if strategy == "pages":
        try:
            WrittenPages().close()
        except OSError as error:
            pytest.skip(f"this kernel does not tell written pages: {error}")
    plain = Form(fork_host, FORM, scratch / "plain").run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    for tick in range(1, plain.ticks + 1, 2):
        form = Form(fork_host, FORM, scratch / f"run{tick}")
        # Twice: what was restored is watched from the beginning again.
        outcome = finish(form, [Kill(tick=tick), Kill(tick=4)], CKPT_EVERY="1it", STAGING=strategy)
        assert outcome.kills >= 1, outcome.story()
        assert outcome.last.status == 0, outcome.story()
        assert outcome.last.result == plain.result, f"tick {tick}: {outcome.story()}"
