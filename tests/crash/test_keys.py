"""Keys, encryption and positions, as a user has them: real processes, killed and run again with other settings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash import damage
from crash.harness import Attempt, ForkHost, Form, Kill, Script, base_environment, form_names

from ckpt.errors import RolledBackError
from ckpt.format.keys import Key
from ckpt.format.segment import HEADER_SIZE, parse_segment
from ckpt.root import StoreRoot
from ckpt.store import Store

OLD, NEW = (Key.from_secret(bytes([n]) * 32) for n in (1, 2))
FORMS = ["small_state", "state_in_packs"]

JOB = """
import sys, ckpt
from programs.bits import report
from programs.ticks import tick

@ckpt.step
def ask(name):
    return f"answer for {name}"

@ckpt.job(every="1it", **options)
def work(name, n):
    blob = bytearray(name.encode() * 5000)
    total = 0
    for i in ckpt.loop([f"{name} {i}" for i in range(n)]):
        total += len(ask(i))
        blob[0:4] = i[-4:].encode()
        tick()
    if "fail" in sys.argv:
        raise ValueError(f"about {name}")
    return total, f"result for {name}"

report(work("Mr Smith of Oakland", 6))
"""
MARKS = (b"Oakland", b"answer", b"Smith", b"work.py", b"work.<", b"command")


def script(folder: Path, options: str = "{}", *arguments: str) -> Script:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "work.py").write_text(f"options = {options}\n" + JOB)
    return Script(folder / "work.py", folder, arguments)


def error_of(attempt: Attempt) -> str:
    last = [line for line in attempt.err.splitlines() if line.startswith("ckpt.errors.")]
    assert last, attempt.err
    return last[-1].removeprefix("ckpt.errors.")


def contents(store: Path) -> dict[str, bytes]:
    """All files but the lease: host and pid of who runs are in clear, and change at every start."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", FORMS)
def test_run_goes_on_under_a_new_key_while_the_old_one_is_at_hand(name: str, fork_host: ForkHost, scratch: Path) -> None:
    plain = Form(fork_host, name, scratch / "plain").run(CKPT_DISABLE="1")
    form = Form(fork_host, name, scratch / "run")
    old, new, both = OLD.to_text(), NEW.to_text(), f"{NEW.to_text()},{OLD.to_text()}"
    assert form.run(Kill(tick=4), CKPT_KEY=old, SETTLE_S="0.1", **damage.EVERY).killed
    assert OLD.id in error_of(form.run(CKPT_KEY=new, **damage.EVERY))
    assert form.run(Kill(tick=1), CKPT_KEY=both, SETTLE_S="0.1", **damage.EVERY).killed
    said = error_of(form.run(CKPT_KEY=old, **damage.EVERY))
    assert said.startswith("UntrustedError")
    assert NEW.id in said
    assert OLD.id in said
    last = form.run(CKPT_KEY=both, **damage.EVERY)
    assert last.result == plain.result, last.err
    uses, problems = Store(form.folder / "store", key=both).keys()
    assert (uses[0].id, uses[0].runs, problems) == (NEW.id, 1, [])
    if uses[1].runs == 0:  # what the old key signed was trimmed: it can go
        assert form.run(CKPT_KEY=new, **damage.EVERY).result == plain.result


@pytest.mark.parametrize("what", ["the whole run", "segments", "packs"])
def test_what_another_store_with_the_same_key_holds_is_refused(what: str, fork_host: ForkHost, scratch: Path) -> None:
    key = NEW.to_text()
    expected = Form(fork_host, "state_in_packs", scratch / "plain").run(CKPT_DISABLE="1").result
    forms = [Form(fork_host, "state_in_packs", scratch / name) for name in ("here", "there")]
    for form in forms:
        assert form.run(Kill(tick=4), CKPT_KEY=key, SETTLE_S="0.1", **damage.EVERY).killed
    here, there = (form.folder / "store" for form in forms)
    suffixes = {"the whole run": (".log", ".pack", ""), "segments": (".log",), "packs": (".pack",)}[what]
    for path in there.glob("*/*/**/*"):
        if path.is_file() and path.suffix in suffixes:
            shutil.copy(path, here / path.relative_to(there))
    before = contents(here)
    attempt = forms[0].run(CKPT_KEY=key, **damage.EVERY)
    if what == "packs":  # then the start, which is in the log, is still good
        assert "does not verify" in attempt.err
        assert attempt.result == expected or error_of(attempt).startswith("CorruptionError")
    else:  # refused before anything was written
        assert error_of(attempt).startswith("UntrustedError")
        assert "was made for the store" in attempt.err
        assert contents(here) == before


def frames(wreck: damage.Wreck, name: str) -> tuple[bytes, list[bytes]]:
    """Header and whole frames of a segment."""
    data, at, found = (wreck.store / name).read_bytes(), HEADER_SIZE, []
    while at < len(data):
        end = at + 24 + int.from_bytes(data[at : at + 4], "little") + 32
        found.append(data[at:end])
        at = end
    return data[:HEADER_SIZE], found


@pytest.mark.parametrize("name", FORMS)
def test_reordered_spliced_and_replayed_records_are_refused(name: str, fork_host: ForkHost, scratch: Path) -> None:
    wreck = damage.make(fork_host, name, scratch / "made", Kill(tick=4))
    later = wreck.copy(scratch / "later")
    assert later.run(Kill(tick=1), SETTLE_S="0.1", **damage.EVERY).killed
    twice = damage.Wreck(wreck.host, wreck.name, later.folder / "store", wreck.expected)
    last = wreck.segments()[-1]
    header, own = frames(wreck, last)
    _, others = frames(twice, twice.segments()[-1])
    changed = {
        "two records swapped": [*own[:-2], own[-1], own[-2]],
        "the first two swapped": [own[1], own[0], *own[2:]],
        "the last record again": [*own, own[-1]],
        "an earlier record again": [*own, own[0]],
        "a record of another segment": [*own, others[-1]],
        "all records of another segment": others,
        "one left out": [*own[:1], *own[2:]],
    }
    assert len(own) >= 4
    verdicts = []
    for how, records in changed.items():
        form = wreck.copy(scratch / "copy")
        (form.folder / "store" / last).write_bytes(header + b"".join(records))
        assert any(finding.serious for finding in Store(form.folder / "store").verify()), how
        verdicts.append(wreck.verdict(form.run(**damage.EVERY)))
    # What a later checkpoint covers is made up for; everything else has to be refused.
    assert set(verdicts) <= {"right", "CorruptionError", "UntrustedError"}
    assert verdicts.count("right") < len(verdicts) / 2, verdicts


def test_encrypted_run_leaves_nothing_in_clear_and_resumes_by_itself(scratch: Path) -> None:
    plain = script(scratch / "plain").run(CKPT_DISABLE="1").result
    clear = script(scratch / "clear")
    assert clear.run(Kill(tick=3), **damage.EVERY).killed
    seen = b"".join(contents(clear.store).values())
    assert all(mark in seen for mark in MARKS if mark != b"work.<"), "these marks would not be missed"
    job = script(scratch / "run")
    assert job.run(Kill(tick=3), CKPT_ENCRYPT="1", **damage.EVERY).killed
    files = contents(job.store)
    for name, data in files.items():
        assert not [mark for mark in MARKS if mark in data], name
    assert any(name.endswith(".pack") for name in files)
    assert error_of(job.run(CKPT_KEY=NEW.to_text())).startswith("UntrustedError")
    last = job.run()  # says nothing of encryption: the store does
    assert last.result == plain, last.err
    assert all(mark not in data for data in contents(job.store).values() for mark in MARKS)
    shown = subprocess.run(
        [sys.executable, "-m", "ckpt", "show", "work.work", "--json"],
        check=True, env=base_environment(job.store), capture_output=True, text=True,
    )  # fmt: skip
    assert "Oakland" in json.loads(shown.stdout)["arguments"]


def test_forms_end_with_the_right_result_in_an_encrypted_store(fork_host: ForkHost, scratch: Path) -> None:
    names = form_names()[::6]
    for name in names:
        plain = Form(fork_host, name, scratch / f"{name}-plain").run(CKPT_DISABLE="1")
        form = Form(fork_host, name, scratch / name)
        kills = [form.run(Kill(tick=tick), CKPT_ENCRYPT="1", **damage.EVERY).killed for tick in (3, 2)]
        last = form.run(**damage.EVERY)
        assert (last.status, last.result) == (plain.status, plain.result), f"{name} {kills}: {last.err}"
    assert len(names) > 10


def test_error_text_of_an_encrypted_run_is_not_in_clear(scratch: Path) -> None:
    job = script(scratch / "run", "{}", "fail")
    assert job.run(CKPT_ENCRYPT="1").status == 1
    assert all(b"Smith" not in data for data in contents(job.store).values())
    assert "Smith" in str(Store(job.store).open("work.work").outcome)


def test_encrypted_store_is_an_option_of_the_store(scratch: Path) -> None:
    job = script(scratch / "run", '{"store": ckpt.Store("here", encrypt=True, key="' + NEW.to_text() + '")}')
    job.path.write_text("import ckpt\n" + job.path.read_text())
    assert job.run(Kill(tick=3)).killed
    root = StoreRoot.open(job.folder / "here", key=NEW)
    assert (root.key.id, root.key.encrypts) == (NEW.id, True)
    assert job.run().status == 0


def test_older_copy_is_resumed_from_unless_a_position_is_expected(scratch: Path) -> None:
    job = script(scratch / "run")
    assert job.run(Kill(tick=2)).killed
    shutil.copytree(job.store, scratch / "older")
    assert job.run(Kill(tick=2)).killed
    seen = Store(job.store).open("work.work").log_position
    shutil.rmtree(job.store)
    shutil.copytree(scratch / "older", job.store)
    before = contents(job.store)
    careful = Script(job.path, job.folder)
    text = job.path.read_text()
    job.path.write_text(text.replace("report(work(", f'report(work.options(expect_at_least="{seen}")('))
    refused = careful.run()
    assert error_of(refused).startswith("RolledBackError")
    assert seen in refused.err
    assert contents(job.store) == before
    with pytest.raises(RolledBackError) as caught:
        Store(job.store).open("work.work", expect_at_least=seen)
    assert caught.value.expected == seen
    verify = [sys.executable, "-m", "ckpt", "verify", "work.work", "--expect-at-least"]
    ends = [
        subprocess.run([*verify, where], check=False, env=base_environment(job.store), capture_output=True).returncode
        for where in (seen, caught.value.end)
    ]
    assert ends == [1, 0]
    job.path.write_text(text)
    assert job.run().status == 0, "not detected without it"


def test_position_that_was_reached_is_no_reason_to_refuse(scratch: Path) -> None:
    job = script(scratch / "run")
    text = job.path.read_text()
    assert job.run(Kill(tick=3)).killed
    for _ in range(2):
        seen = Store(job.store).open("work.work").log_position
        job.path.write_text(text.replace("report(work(", f'report(work.options(expect_at_least="{seen}")('))
        done = job.run()
        assert done.status == 0, done.err


def test_segments_name_the_key_that_signed_them(fork_host: ForkHost, scratch: Path) -> None:
    wreck = damage.make(fork_host, "small_state", scratch / "made", Kill(tick=4))
    key = StoreRoot.open(wreck.store).key
    for name in wreck.segments():
        data = (wreck.store / name).read_bytes()
        assert data[40:56] == key.id.encode()
        assert data[92:108] == key.store
        from ckpt.format.names import RunNames

        path = Path(name)
        parsed = parse_segment(data, key, RunNames(path.parts[0], path.parts[1]), int(path.stem))
        assert parsed.header is not None
        assert parsed.header.key.id == key.id
