"""What the numbers were measured on: enough to judge them, nothing that names the machine."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numpy", "joblib", "blake3", "zstandard", "cloudpickle", "fsspec")


def describe(folder: Path) -> dict[str, object]:
    """Python, platform, processors, libraries, and the kind of file system that ``folder`` is on."""
    import ckpt

    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "load": round(os.getloadavg()[0], 1),
        "file_system": _file_system(folder),
        "ckpt": ckpt.__version__,
        **{name: found for name in LIBRARIES if (found := _version(name))},
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _file_system(folder: Path) -> str:
    """The type of the innermost mount that holds ``folder``, where the system lists its mounts."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    found = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    holding = [(place, kind) for place, kind in found if folder.resolve().is_relative_to(place)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the machine and this program were up to a moment: ``busy`` and ``own`` are processor seconds."""

    at_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> Load:
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.monotonic(), _busy_s(), sum(each.ru_utime + each.ru_stime for each in own))

    def text_since(self) -> str:
        """What happened since: seconds, what other programs took of the processors, and the load average at the end."""
        after = Load.now()
        seconds = after.at_s - self.at_s
        others_s = (after.busy_s - self.busy_s) - (after.own_s - self.own_s)
        # Children that are killed and not waited for yet, and the kernel's own threads, count as others.
        share = max(0.0, others_s) / max(seconds * (os.cpu_count() or 1), 1e-9)
        known = f"other programs took {share:.0%} of the processors, " if after.busy_s else ""
        return f"{seconds:.0f} s, {known}load {os.getloadavg()[0]:.1f}"


def _busy_s() -> float:
    """Processor seconds of all programs since the start of the machine, stolen ones included; 0 where nobody tells."""
    told = Path("/proc/stat")
    if not told.exists():
        return 0.0
    user, nice, system, _idle, _wait, *rest = map(int, told.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
