"""Environments of the packages that `benchmarks/peers.py` compares: one folder each, from PyPI or npm."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import ROOT, commit

_INSTALL_LIMIT_S = 1800
_STAMP = "installed.json"
# One thread for all libraries, or a tree of sources in front of what was installed, would change what is measured.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Environment:
    """An installed environment: `versions` by package, `size_mb` of all that its client installed."""

    requirements: list[str]
    versions: dict[str, str]
    size_mb: float


class NotAvailable(Exception):
    """A peer cannot be measured; the message is the reason that the page gives."""


def cache_folder() -> Path:
    """Return the default folder of environments, outside the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ddamfn-peers"


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment of PyPI."""
    return folder / "bin" / "python"


def clean_environ() -> dict[str, str]:
    """Return the variables that installing and measuring see."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}


def pypi(folder: Path, packages: list[str], shown: list[str]) -> Environment:
    """Install `packages` from PyPI into a virtual environment, unless they are there."""
    return _kept(folder, packages) or _install_pypi(folder, packages, shown)


def npm(folder: Path, packages: list[str]) -> Environment:
    """Install `packages` from npm below a folder, unless they are there; no script of a package is run."""
    return _kept(folder, packages) or _install_npm(folder, packages)


def this_package(folder: Path) -> Environment:
    """Install this checkout, anew if its files changed since."""
    requirement = f"{ROOT}#{commit()}"
    kept = None if commit().endswith(("-changed", "unknown")) else _kept(folder, [requirement])
    return kept or _install_pypi(folder, [str(ROOT)], ["ddamfn", "onnxruntime", "numpy", "pillow"], [requirement])


def _kept(folder: Path, requirements: list[str]) -> Environment | None:
    try:
        environment = Environment(**json.loads((folder / _STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return environment if environment.requirements == requirements else None


def _install_pypi(
    folder: Path, packages: list[str], shown: list[str], requirements: list[str] | None = None
) -> Environment:
    _start_anew(folder)
    _client([sys.executable, "-m", "venv", str(folder)], folder)
    empty = _size_mb(folder)
    _client([str(python_of(folder)), "-m", "pip", "install", "--no-input", "--no-compile", *packages], folder)
    listed = _client([str(python_of(folder)), "-m", "pip", "list", "--format=json"], folder)
    versions = {entry["name"].lower(): entry["version"] for entry in json.loads(listed)}
    found = {name: versions.get(name.lower(), "not installed") for name in shown}
    return _stamp(folder, Environment(requirements or packages, found, _size_mb(folder) - empty))


def _install_npm(folder: Path, packages: list[str]) -> Environment:
    _start_anew(folder)
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    _client(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], folder)
    found = {}
    for package in packages:
        name = package[: package.rindex("@")] if package.rfind("@") > 0 else package
        text = (folder / "node_modules" / name / "package.json").read_text(encoding="utf-8")
        found[name] = json.loads(text)["version"]
    return _stamp(folder, Environment(packages, found, _size_mb(folder / "node_modules")))


def _start_anew(folder: Path) -> None:
    """Empty an environment that was made here; a folder with other files is left alone."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _STAMP).exists():
        raise NotAvailable(f"the folder {folder.name} of the environments has other files")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _STAMP).write_text("{}\n", encoding="utf-8")  # not yet installed, but made here


def _client(command: list[str], folder: Path) -> str:
    """Run a client of a registry and return its output."""
    print(f"{folder.name}: {' '.join(command[-4:])}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"its installation failed: {type(error).__name__} of {Path(command[0]).name}") from error
    if done.returncode:
        # The first error: what follows it are addresses and files of this machine.
        errors = (line.strip() for line in done.stderr.splitlines() if "error" in line.lower())
        raise NotAvailable(f"its installation failed: {next(errors, 'no message')[:200]}")
    return done.stdout


def _size_mb(folder: Path) -> float:
    """Return the space that the files of a folder take, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def _stamp(folder: Path, environment: Environment) -> Environment:
    (folder / _STAMP).write_text(json.dumps(asdict(environment)) + "\n", encoding="utf-8")
    return environment
