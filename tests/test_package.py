"""The built wheel: what is in it, and that a stranger who installs it has a program and a library that work."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import ckpt

ROOT = Path(__file__).parents[1]
SECRET_FREE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}

JOB = """\
import sys, ckpt

@ckpt.job(every="1it")
def add(n):
    total = 0
    for i in ckpt.loop(range(n)):
        total += i
        if total > 20 and len(sys.argv) > 1:
            sys.exit("stopped half-way")
    return total

print(add(10))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that CKPT_TEST_WHEEL names, or one that is built now."""
    given = os.environ.get("CKPT_TEST_WHEEL")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that has the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=SECRET_FREE, capture_output=True, text=True, check=False)


def test_public_names_are_these_and_no_others() -> None:
    assert sorted(ckpt.__all__) == [
        "CkptError",
        "Failed",
        "Logged",
        "Preempted",
        "Store",
        "__version__",
        "current_run",
        "errors",
        "job",
        "loop",
        "map",
        "open",
        "operation",
        "operation_key",
        "output",
        "step",
        "triggers",
    ]
    assert all(hasattr(ckpt, name) for name in ckpt.__all__)


def test_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    package = Path(ckpt.__file__).parent
    wanted = {f"ckpt/{path.relative_to(package)}" for path in package.rglob("*.py")} | {"ckpt/py.typed"}
    assert inside == wanted
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    said = email.message_from_bytes(archive.read(path))
    assert (said["Name"], said["Version"], said["Requires-Python"]) == ("ckpt-jobs", ckpt.__version__, ">=3.11")
    assert said["License-Expression"] == "Apache-2.0"
    needs = {line.partition(">")[0] for line in said.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert needs == {"fsspec", "cloudpickle", "zstandard", "click", "blake3", "rich"}
    assert {"dev", "s3"} <= set(said.get_all("Provides-Extra", []))


@pytest.mark.slow
def test_installed_alone_its_command_and_its_module_say_their_version(installed: Path, tmp_path: Path) -> None:
    for words in ([str(installed / "ckpt")], [str(installed / "python"), "-m", "ckpt"]):
        done = run([*words, "--version"], tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert ckpt.__version__ in done.stdout


@pytest.mark.slow
def test_installed_alone_it_resumes_a_job(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "add.py").write_text(JOB)
    command = [str(installed / "python"), "add.py"]
    stopped = run([*command, "stop"], tmp_path)
    assert stopped.returncode == 1, stopped.stderr
    resumed = run(command, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == "45\n"
    assert "resumed with" in resumed.stderr
    listed = run([str(installed / "ckpt"), "ls"], tmp_path)
    assert "add.add" in listed.stdout
    assert "finished" in listed.stdout


@pytest.mark.slow
def test_installed_alone_the_demo_ends_with_equal_results(installed: Path, tmp_path: Path) -> None:
    done = run([str(installed / "ckpt"), "demo"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"
