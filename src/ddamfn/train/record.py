"""The folder of a run: what it was asked, where it ran, what came of every epoch."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import ddamfn
from ddamfn.errors import ConfigError, TrainingError
from ddamfn.train.config import Run, to_dict


class RunFolder:
    """`runs/<name>/`: config.json, environment.json, metrics.jsonl, result.json and checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.state = path / "checkpoints" / "state.pt"
        self.last = path / "checkpoints" / "last.safetensors"
        self.best = path / "checkpoints" / "best.safetensors"
        self.result = path / "result.json"

    def begin(self, run: Run, *, resume: bool, device: torch.device) -> None:
        """Make the folder, or check that the one there belongs to the same run.

        Raises:
            ConfigError: if it holds another run, or this one without `resume`.
            TrainingError: if it cannot be written.
        """
        config = json.loads(json.dumps(to_dict(run)))
        if (self.path / "config.json").exists():
            if not resume:
                raise ConfigError(f"{self.path} holds a run already; add --resume to go on, or choose another --name")
            if json.loads((self.path / "config.json").read_text()) != config:
                raise ConfigError(f"{self.path}/config.json is another run than asked; resume with the same settings")
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(environment(device), self.path / "environment.json")
            write_json(config, self.path / "config.json")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error})") from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one epoch to metrics.jsonl."""
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.metrics}: cannot be written ({error}); make room and resume") from error

    def forget_after(self, epochs: int) -> None:
        """Drop the rows of epochs that the checkpoint does not know (a kill can fall between the two files)."""
        if self.metrics.exists():
            kept = [row for row in self.rows() if row["epoch"] <= epochs]
            draft = self.metrics.with_suffix(".part")
            draft.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            os.replace(draft, self.metrics)

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows of metrics.jsonl; a torn last line is left out."""
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows


def environment(device: torch.device) -> dict[str, Any]:
    """Machine and versions that a run's numbers depend on."""
    return {
        "ddamfn": ddamfn.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def commit() -> str | None:
    """Commit of the source tree that this package runs from, with "+changes" if it differs; None outside of one."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "."],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def write_json(value: Any, path: Path) -> None:
    """Write JSON in one step, so that a kill leaves the old file or the new one."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, path)
