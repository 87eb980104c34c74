"""The card that an export writes: what the run records and how its seeds scored."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddamfn.data.catalog import CARDS
from ddamfn.errors import ConfigError
from ddamfn.export.command import portable, settings_of, training_command
from ddamfn.export.lean import Precision
from ddamfn.faces import NETWORK_SHA256
from ddamfn.models.complexity import count_macs, count_parameters
from ddamfn.preparation import Prepared
from ddamfn.train import Run
from ddamfn.train.run_folder import FinishedRun, read_settings
from ddamfn.weights import CalibrationCard, Card

DETECTOR = f"retinaface-mobilenet0.25 (sha256 {NETWORK_SHA256[:12]})"

_CODE_LICENSE = "MIT"
_ORIGINS = ("initial", "distillation", "objective")
"""What a run begins with and learns from besides its data; without the first it begins with random weights."""
_VALIDATION = ("n", "correct", "accuracy", "ci95", "mean_class_accuracy", "macro_f1", "per_class_recall")
_ATTENTION = ("head_means", "head_difference", "max_attention_mean")
"""Of the kept epoch, on validation: whether the heads differ, and whether their joined maximum weighs anything."""


def build_card(
    finished: FinishedRun,
    name: str,
    *,
    file: str,
    sha256: str,
    precision: Precision,
    temperature: float = 1.0,
    calibration: CalibrationCard | None = None,
    trained_on: Prepared | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Card:
    """Write a card; `scores` are added to it later, by measuring.

    Args:
        finished: the run and the checkpoint that was exported.
        name: how users call the weights.
        file: name of the ONNX file.
        sha256: of the ONNX file.
        precision: how the file stores its weights.
        temperature: fitted on validation images.
        calibration: the confidence on validation images.
        trained_on: the prepared set of the run, for its name and rights; None if it is not at hand.
        notes: more for the card's `training`, such as the figures of the parity gate.

    Raises:
        WeightsError: if the card would not be usable.
    """
    side = finished.run.data.alignment.side_px
    known = None if trained_on is None else CARDS.get(trained_on.dataset)
    title = trained_on.dataset if known is None and trained_on is not None else known.title if known else "not recorded"
    return Card(
        name=name,
        architecture={
            "name": finished.run.model.name,
            "num_classes": len(finished.classes),
            "num_heads": len(finished.row["head_means"]),
            "parameters": count_parameters(finished.network),
            "gmac": round(count_macs(finished.network, (side, side)) / 1e9, 4),
            "options": dict(finished.run.model.options),
        },
        labels=finished.classes,
        input_side_px=side,
        preprocessing={
            "color": finished.run.data.preprocessing.color,
            "detail_px": finished.run.data.preprocessing.detail_px,
        },
        mean=finished.run.data.mean,
        std=finished.run.data.std,
        alignment={
            "template": finished.run.data.alignment.template,
            "margin": finished.run.data.alignment.margin,
            "side_px": side,
            "detector": DETECTOR,
        },
        temperature=temperature,
        training={"data": title, **_training(finished), **(notes or {})},
        scores=(),
        license=_CODE_LICENSE,
        rights=_rights(title, known.license if known else ""),
        file=file,
        sha256=sha256,
        precision=precision,
        calibration=calibration,
    )


def _training(finished: FinishedRun) -> dict[str, Any]:
    valid, settings = finished.row["valid"], settings_of(finished.run)
    how = "highest validation accuracy" if finished.checkpoint == "best" else "last epoch"
    return {
        "rule": finished.run.data.rule,
        "recipe": finished.run.recipe,
        "seed": finished.run.seed,
        "commit": finished.environment.get("commit"),
        "command": training_command(finished.run),
        **{key: settings[key] for key in _ORIGINS if settings.get(key) is not None},
        "epochs": finished.run.epochs,
        "selection": f"{how}, epoch {finished.row['epoch']}; the test split was not looked at",
        "validation": {
            "rule": finished.run.data.validation_rule,
            **{key: valid[key] for key in _VALIDATION},
        },
        "attention": {key: finished.row[key] for key in _ATTENTION if key in finished.row},
        **{key: portable(finished.environment[key]) for key in ("initial", "teachers") if key in finished.environment},
        "environment": {key: finished.environment.get(key) for key in ("ddamfn", "torch", "python", "device")},
    }


def _rights(title: str, license: str) -> str:
    terms = f" ({license})" if license else ""
    return (
        f"The weights' own license is that of this package. They were trained on {title}{terms}; they hold no image "
        "of it. Whether that data's terms bind a use of these weights is for the user to decide."
    )


_FIGURES = ("n", "correct", "accuracy", "mean_class_accuracy")


def seeds_record(chosen: FinishedRun, others: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the validation figures of runs that differ by their seed alone, with mean and deviation of the accuracy.

    Args:
        chosen: the run that is exported.
        others: at least one more.

    Runs of a second round each begin with a run of their own; these may differ by their seed alone as well. The name of
    a recipe is no difference: one recipe with other settings can be what another one is.

    Returns:
        `runs`, one entry a seed in their order; `mean` and `deviation` (of the sample) of the accuracy, 0..1.

    Raises:
        ConfigError: if a run differs in more than its seed, or a seed stands there twice.
    """
    for other in others:
        if not _differ_by_seed(other.run, chosen.run):
            raise ConfigError(
                f"{other.folder} differs from {chosen.folder} by more than its seed, see their config.json; name runs "
                "of the same recipe"
            )
    runs = sorted((chosen, *others), key=lambda run: run.run.seed)
    seeds = [run.run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"a seed stands twice among the runs, whose seeds are {', '.join(map(str, seeds))}")
    accuracies = [run.row["valid"]["accuracy"] for run in runs]
    return {
        "runs": [{"seed": run.run.seed, **{key: run.row["valid"][key] for key in _FIGURES}} for run in runs],
        "mean": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies),
    }


def _differ_by_seed(one: Run, other: Run) -> bool:
    """Whether two runs differ by nothing but their seed, the runs that they begin with included."""
    if replace(one, seed=other.seed, initial=other.initial, recipe=other.recipe) != other:
        return False
    if one.initial == other.initial:
        return True
    begun = [Path(run.initial) for run in (one, other) if run.initial is not None]
    return len(begun) == 2 and all(map(Path.is_dir, begun)) and _differ_by_seed(*map(read_settings, begun))
