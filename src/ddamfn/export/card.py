"""The card of exported weights, written from what the run recorded; nothing on it is typed by hand."""

from collections.abc import Mapping
from typing import Any

from ddamfn.data.catalog import CARDS
from ddamfn.export.command import portable, settings_of, training_command
from ddamfn.export.lean import Precision
from ddamfn.faces import NETWORK_SHA256
from ddamfn.models.complexity import count_macs, count_parameters
from ddamfn.preparation import Prepared
from ddamfn.train.finished import FinishedRun
from ddamfn.weights import CalibrationCard, Card

DETECTOR = f"retinaface-mobilenet0.25 (sha256 {NETWORK_SHA256[:12]})"

_CODE_LICENCE = "MIT"
_ORIGINS = ("initial", "distillation", "objective")
"""What a run begins with and learns from besides its data; without the first it begins with random weights."""
_VALIDATION = ("n", "correct", "accuracy", "ci95", "mean_class_accuracy", "macro_f1", "per_class_recall")
_ATTENTION = ("head_means", "head_difference", "joined_mean")
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
        temperature: fitted on validation pictures.
        calibration: the confidence on validation pictures.
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
        appearance={"colour": finished.run.data.appearance.colour, "detail_px": finished.run.data.appearance.detail_px},
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
        licence=_CODE_LICENCE,
        rights=_rights(title, known.licence if known else ""),
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


def _rights(title: str, licence: str) -> str:
    terms = f" ({licence})" if licence else ""
    return (
        f"The weights' own licence is that of this package. They were trained on {title}{terms}; they hold no picture "
        "of it. Whether that data's terms bind a use of these weights is for the user to decide."
    )
