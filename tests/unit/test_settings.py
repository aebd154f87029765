"""Options: what is understood, what is refused with the fix, and what the environment fills in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.errors import OptionError
from ckpt.settings import DEFAULT_STORE, Environment, Options, parse_duration
from ckpt.triggers import Every


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), ("1.5s", 1.5), ("1h30m", 5400),
        ("1m0.5s", 60.5), ("0s", 0),
    ],
)  # fmt: skip
def test_duration_is_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5S", "5sec", "1e3s", ".5s", "5s5", "inf", "5s, 5m"])
def test_what_is_no_duration_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(OptionError) as refused:
        parse_duration(text)
    assert repr(text) in refused.value.what
    assert '"30s"' in refused.value.fix


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"recreate": "client"}, "recreate=('client',)"),
        ({"keep": 0}, "1 or more"),
        ({"keep": -1}, "1 or more"),
        ({"keep": 1.5}, "1 or more"),
        ({"keep": None}, "1 or more"),
        ({"on_code_change": "stop"}, "'resume', 'warn', 'fail', 'fresh'"),
        ({"wait": -1}, "0 or more"),
        ({"wait": float("nan")}, "0 or more"),
        ({"sync": "never"}, "interval:1s"),
        ({"sync": "interval"}, "30s"),
        ({"sync": "interval:5"}, "30s"),
        ({"sync": "interval:soon"}, "30s"),
    ],
    ids=str,
)
def test_wrong_option_is_refused_with_the_fix(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as refused:
        Options(**wrong)
    assert said in refused.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 0}, {"sync": "never"}, {"on_code_change": "stop"}, {"recreate": "client"}, {"store": 3}, {"key": 5},
        {"name": 7}, {"every": "often"}, {"every": "10"}, {"evry": "1s"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_option_of_a_job_is_refused_at_decoration(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ckpt.job(**wrong)(parse_duration)
    with pytest.raises(OptionError):
        ckpt.job(parse_duration).options(wait=-1)


@pytest.mark.parametrize(
    "wrong", [{"freh": True}, {"store": 3}, {"every": "often"}, {"run_id": 5}, {"keep": 0}], ids=str
)
def test_wrong_option_of_a_call_is_refused_before_the_call(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as refused:
        ckpt.job(parse_duration).options(**wrong)
    assert next(iter(wrong)) in refused.value.what
    assert refused.value.fix


@pytest.mark.parametrize(
    "wrong",
    [{"retrys": 3}, {"retries": -1}, {"retries": 1.5}, {"backoff": "1s"}, {"retry_on": "OSError"}, {"retry_on": (3,)}],
    ids=str,
)
def test_wrong_option_of_a_step_is_refused_at_decoration(wrong: dict[str, Any]) -> None:
    for decorate in (lambda: ckpt.step(**wrong), lambda: ckpt.step(parse_duration, **wrong)):
        with pytest.raises(OptionError) as refused:
            decorate()
        assert next(iter(wrong)) in refused.value.what
    if "retrys" in wrong:
        assert "did you mean retries?" in refused.value.what
        assert "backoff, key, name, record_errors, retries, retry_on" in refused.value.fix


def test_a_misspelt_option_of_a_block_is_told_what_there_is() -> None:
    with pytest.raises(OptionError) as refused:
        ckpt.open("block", evry=1)  # type: ignore[call-arg]
    assert "did you mean every?" in refused.value.what
    assert refused.value.fix == "give some of every, expect_at_least, keep, memory_limit, mtbf, run_id, store, sync, validate"


def test_retry_of_a_step_means_retries() -> None:
    with pytest.raises(OptionError, match="did you mean retries"):
        ckpt.step(parse_duration, retry=2)  # type: ignore[call-overload]


@pytest.mark.parametrize("every", ["nonsense", "often", "10"])
def test_wrong_ckpt_every_is_named_before_anything_is_taken_over(
    every: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CKPT_EVERY", every)
    store = tmp_path / "store"
    with pytest.raises(OptionError) as of_a_job:
        ckpt.job(parse_duration).options(store=store)("1s")
    with pytest.raises(OptionError) as of_a_block, ckpt.open("block", store=store):
        raise AssertionError("it was opened")
    for refused in (of_a_job, of_a_block):
        for words in [f"CKPT_EVERY='{every}'", '"1%"', '"30s"', '"1000it"']:
            assert words in str(refused.value)
    assert not store.exists()


@pytest.mark.parametrize(("sync", "seconds"), [("always", 0), ("interval:1s", 1), ("interval:250ms", 0.25)])
def test_sync_says_for_how_long_an_operation_may_be_volatile(sync: str, seconds: float) -> None:
    assert Options(sync=sync).sync_interval_s == seconds


def test_changed_replaces_only_what_was_given() -> None:
    options = Options(keep=5, store="a", wait=3.0)
    changed = options.changed(keep=None, store="b", fresh=None, run_id="r")
    assert (changed.keep, changed.store, changed.wait, changed.fresh, changed.run_id) == (5, "b", 3.0, False, "r")
    assert options.store == "a"
    with pytest.raises(OptionError):
        options.changed(keep=0)


VARIABLES = ("CKPT_DISABLE", "CKPT_STORE", "CKPT_EVERY", "CKPT_KEY", "CKPT_PROGRESS", "CKPT_PULSE", "CKPT_PULSE_EVERY",
             "CKPT_ENCRYPT")  # fmt: skip


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_empty_environment_gives_the_defaults(environment: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        for name in VARIABLES if value is not None else ():
            environment.setenv(name, value)
        read = Environment.read()
        assert read == Environment(False, None, None, None, False, None, 1.0, False)
        applied = read.apply(Options())
        assert (applied.store, applied.every, applied.progress) == (DEFAULT_STORE, "1%", False)


def test_environment_fills_what_the_program_left_out(environment: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("1", "s3://b/p", "30s", "k", "1", "pulse", "0.5", "1"), strict=True):
        environment.setenv(name, value)
    read = Environment.read()
    assert read == Environment(True, "s3://b/p", "30s", "k", True, "pulse", 0.5, True)
    applied = read.apply(Options())
    assert (applied.store, applied.every, applied.progress) == ("s3://b/p", "30s", True)


def test_what_the_program_says_is_stronger_than_the_environment(environment: pytest.MonkeyPatch) -> None:
    for name, value in (("CKPT_STORE", "elsewhere"), ("CKPT_EVERY", "30s"), ("CKPT_PROGRESS", "1")):
        environment.setenv(name, value)
    applied = Environment.read().apply(Options(store="here", every="5it", progress=False))
    assert (applied.store, applied.every, applied.progress) == ("here", "5it", False)


@pytest.mark.parametrize(("text", "on"), [("0", False), ("", False), ("1", True), ("yes", True)])
def test_switches_are_on_unless_empty_or_0(text: str, on: bool, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CKPT_DISABLE", text)
    environment.setenv("CKPT_PROGRESS", text)
    read = Environment.read()
    assert (read.disabled, read.progress) == (on, on)


def test_default_that_the_program_writes_out_is_stronger_than_the_environment(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("CKPT_EVERY", "30s")
    assert Environment.read().apply(Options(every="1%")).every == "1%"
    assert Environment.read().apply(Options()).every == "30s"


def test_a_trial_keeps_every_run_in_its_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_TRIAL", "/tmp/trial")
    monkeypatch.setenv("CKPT_STORE", "s3://theirs/runs")
    applied = Environment.read().apply(Options(store="/their/own"))
    assert applied.store == "/tmp/trial/store"


@pytest.mark.parametrize(
    ("text", "nbytes"), [("4096", 4096), ("512MiB", 2**29), ("2 GB", 2 * 10**9), ("1.5KiB", 1536), ("3T", 3 * 10**12)]
)
def test_size_is_understood(text: str, nbytes: int) -> None:
    assert Options(memory_limit=text).memory_limit_bytes == nbytes


@pytest.mark.parametrize(
    "wrong", [{"memory_limit": "much"}, {"memory_limit": 0}, {"memory_limit": "-1MB"}, {"mtbf": "often"}, {"mtbf": 0}, {"mtbf": []}]
)
def test_wrong_limit_or_time_between_failures_is_refused_with_the_fix(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        Options(**wrong)
    assert caught.value.fix


@pytest.mark.parametrize(("wrong", "named"), [({"mtbf": "6"}, "mtbf='6'"), ({"sync": "interval:5"}, "sync='interval:5'")])
def test_duration_that_is_none_is_refused_under_the_name_of_its_option(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named) as caught:
        Options(**wrong)
    assert caught.value.__suppress_context__, "one traceback says it all"


@pytest.mark.parametrize("every", ["10m|", "|10m", "1%|often|5m"])
def test_joined_triggers_that_are_not_understood_are_shown_whole(every: str) -> None:
    with pytest.raises(OptionError) as caught:
        ckpt.job(every=every)(len)
    assert f"every={every!r} is not understood" in str(caught.value)


@pytest.mark.parametrize("every", ["1%", "30s|1000it", Every(5.0)])
def test_time_between_failures_that_would_be_ignored_is_refused(every: Any) -> None:
    with pytest.raises(OptionError, match="has no effect"):
        ckpt.job(every=every, mtbf="6h")
    with pytest.raises(OptionError, match="has no effect"):
        ckpt.open("block", every=every, mtbf="6h")
    ckpt.job(every="auto|1000it", mtbf="6h")


def test_time_between_failures_alone_means_auto(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CKPT_EVERY", "30s")
    assert Environment.read().apply(Options(mtbf="6h")).every == "auto"
    assert Environment.read().apply(Options(mtbf="6h", every="1it|auto")).every == "1it|auto"


def test_time_between_failures_is_a_text_or_seconds() -> None:
    assert (Options(mtbf="6h").mtbf_s, Options(mtbf=90).mtbf_s, Options().mtbf_s) == (21600, 90, None)
