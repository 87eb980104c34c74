"""The context of a measurement: machine, versions, commit; and where results are written."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """Return the short name of the commit, with "-changed" if files differ from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-changed" if status.stdout.strip() else "")


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Return the load average of the last minute; above 0.5 the machine is too busy for clean timings."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def versions(*packages: str) -> str:
    """Return names and versions of installed packages, Python first."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def heading(title: str, command: str, load_before: float, *packages: str) -> list[str]:
    """Return the first lines of a result: command, machine and versions."""
    return [
        f"# {title}",
        "",
        f"Written by `{command}`, {datetime.date.today().isoformat()}, commit {commit()}.",
        "",
        f"- machine: {processor()}, {cores()} cores, {platform.system()} {platform.machine()}",
        f"- load before the run: {load_before:.2f}",
        f"- versions: {versions(*packages)}",
        "",
    ]


def result_path(folder: Path, kind: str) -> Path:
    """Return the path of a result: `<date>-<commit>-<kind>.md`."""
    return folder / f"{datetime.date.today().isoformat()}-{commit()}-{kind}.md"


def write_result(lines: list[str], folder: Path, kind: str) -> Path:
    """Write a result and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_path(folder, kind)
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return path
