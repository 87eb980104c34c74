"""A finished training run, read back: the trained network, and what an export's card must say of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from ddamfn.errors import ConfigError, TrainingError, UsageError
from ddamfn.models import create_model
from ddamfn.objectives import PretextObjective
from ddamfn.train.checkpoint import load_network
from ddamfn.train.config import Run
from ddamfn.train.settings import run_from_dict

Checkpoint = Literal["best", "last"]


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """One checkpoint of a run.

    Attributes:
        folder: the run's folder.
        checkpoint: which checkpoint.
        network: with the checkpoint's weights, in evaluation mode, on the CPU.
        classes: canonical names in the order of the network's outputs.
        run: what the run was asked to do.
        environment: the run's environment.json.
        row: the line of metrics.jsonl that the checkpoint was kept at.
    """

    folder: Path
    checkpoint: Checkpoint
    network: nn.Module
    classes: tuple[str, ...]
    run: Run
    environment: Mapping[str, Any]
    row: Mapping[str, Any]


def read_run(folder: str | Path, checkpoint: Checkpoint = "best") -> FinishedRun:
    """Open a run's folder.

    The run need not have come to its end: whatever checkpoint of its last phase is there will do.

    Args:
        folder: `runs/<name>`.
        checkpoint: `best` on validation, or `last`.

    Raises:
        UsageError: if the checkpoint's name is unknown.
        TrainingError: if the folder is no run, or its last phase has kept nothing yet.
        ConfigError: if the network was trained at another picture size than its crops have.
    """
    if checkpoint not in get_args(Checkpoint):
        raise UsageError(f"a run has the checkpoints {' and '.join(get_args(Checkpoint))}, not {checkpoint!r}")
    place = Path(folder)
    run, environment = read_settings(place), _read_json(place / "environment.json")
    if isinstance(run.objective, PretextObjective):
        raise TrainingError(
            f"{place} trained a trunk by {run.objective.name}, without a class; begin a run with it: ddamfn train "
            f"RECIPE --set initial={place}"
        )
    row = _row_of(place, run, checkpoint)
    side_px = run.data.alignment.side_px
    if row["side_px"] != side_px:
        raise ConfigError(
            f"{place} was last trained at {row['side_px']} px, and its crops have {side_px} px: such a "
            "network would be used at a size it has not seen; end the run with a phase at the crops' size"
        )
    classes = tuple(row["valid"]["classes"])
    network = create_model(run.model.name, num_classes=len(classes), **run.model.options)
    weights = load_network(place / "checkpoints" / f"{checkpoint}.safetensors")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"{place}: the checkpoint does not fit the network of config.json: {error}") from error
    return FinishedRun(place, checkpoint, network.eval(), classes, run, environment, row)


def read_settings(folder: str | Path) -> Run:
    """Read what a run was asked to do from its folder, whether it is finished or not.

    Raises:
        TrainingError: if the folder is no run.
        ConfigError: if it was written by another version and cannot be understood.
    """
    return run_from_dict(_read_json(Path(folder) / "config.json"))


def _row_of(place: Path, run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    """Find the line of metrics.jsonl that belongs to a checkpoint, by the rule that the training keeps it by."""
    before = sum(phase.epochs for phase in run.phases[:-1])
    rows = [row for row in _read_rows(place / "metrics.jsonl") if row["epoch"] > before]
    if not rows:
        raise TrainingError(f"{place}: the run's last phase has no epoch yet; go on with ddamfn train --resume")
    # `max` keeps the first of equal epochs, as the training does.
    return rows[-1] if checkpoint == "last" else max(rows, key=lambda row: row["valid"]["accuracy"])


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: no readable record of a run ({error}); name a folder below runs/") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: no readable part of a run ({error}); name a folder below runs/") from error
    if not isinstance(plain, dict):
        raise TrainingError(f"{path}: holds no JSON object; name a folder below runs/")
    return plain
