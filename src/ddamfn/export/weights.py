"""A run's checkpoint to a weights file and its card: adjust, export, gate, calibrate, describe."""

import copy
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ddamfn.errors import ConfigError, UsageError, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.calibration import class_shift, fit_adjustment
from ddamfn.evaluate.confidence import CALIBRATION_RULE, Confidence, fit_confidence
from ddamfn.evaluate.report import SINGLE_LABEL
from ddamfn.export.card import build_card, command_line, seeds_record
from ddamfn.export.gates import (
    LEAST_FACES,
    RUN_GATES,
    Comparison,
    Exported,
    GateFaces,
    compare,
    onnx_runner,
    synthetic_crops,
    torch_runner,
)
from ddamfn.export.onnx import export_onnx
from ddamfn.faces import normalize, preprocess
from ddamfn.models.fused import fuse
from ddamfn.preparation import Prepared
from ddamfn.preparation.splits import kept_by_majority, own_validation, training_split
from ddamfn.train import load_splits
from ddamfn.train.run_folder import FinishedRun
from ddamfn.train.splits import calibration_split
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit
from ddamfn.weights import WeightPrecision, write_card

log = logging.getLogger(__name__)

Tau = float | Literal["fit"]
"""How far logits are adjusted, 0 to 1; "fit" chooses on validation images."""

_BATCH = 32
_TOLERANCE = 1e-4


def export_run(
    finished: FinishedRun,
    name: str,
    folder: str | Path,
    *,
    precision: WeightPrecision = "float32",
    prepared: Prepared | None = None,
    adjustment: Tau = 0.0,
    seeds: Sequence[FinishedRun] = (),
    least_faces: int = LEAST_FACES,
    argv: Sequence[str] | None = None,
) -> Exported:
    """Export a checkpoint with its card; a file that fails its gate is deleted. The test split stays closed.

    With the run's prepared set, the gate is measured on validation faces (training and synthetic ones if too few),
    and temperature, calibration and tau = "fit" (logit adjustment) are fitted on validation. Without it, faces are
    synthetic, the temperature is 1, and the weights cannot abstain.
    """
    if adjustment != 0 and prepared is None:
        raise UsageError("logits are adjusted by the classes' shares of the training images: add --data ROOT")
    notes: dict[str, Any] = {"seeds": seeds_record(finished, seeds)} if seeds else {}
    confidence: Confidence | None = None
    if prepared is None:
        notes["temperature"] = "not fitted: no data given"
        faces = _gate_faces(finished, (), least_faces)
    else:
        train, valid = load_splits(prepared, finished.run, torch.device("cpu"))
        if adjustment != 0:
            finished, notes["logit_adjustment"] = adjust_logits(finished, train, valid, adjustment)
        confidence = _fit_confidence(finished, prepared, train, valid)
        faces = _gate_faces(finished, (("validation", valid), ("training", train)), least_faces)
    path, comparison = _export_gated(finished, Path(folder), name, precision, faces)
    if argv:
        notes["export_command"] = command_line(argv, run=str(finished.folder))
    notes["parity"] = comparison.to_dict()
    card = build_card(finished, path, precision, notes, trained_on=prepared)
    card = card if confidence is None else confidence.on(card)
    write_card(card, path.with_suffix(".json"))
    log.info("exported %s: %s", path, comparison)
    return Exported(path, card, comparison)


def _fit_confidence(finished: FinishedRun, prepared: Prepared, train: TensorSplit, valid: TensorSplit) -> Confidence:
    """Fit on all validation images with a vote for an expression, or on those that the run selected on."""
    data = finished.run.data
    every = calibration_split(prepared, finished.run, valid, valid.images.device)
    own = data.validation or own_validation(prepared)
    rule = SINGLE_LABEL if not prepared.votes else data.rule if own is None else CALIBRATION_RULE
    majority = kept_by_majority(prepared, own or training_split(prepared), every.keys)
    logits = evaluate_split(finished.network, every, data, _BATCH).logits.numpy()
    shares = dict(zip(train.classes, train.describe().class_shares or (), strict=True))
    return fit_confidence(logits, every.targets.numpy(), every.classes, rule=rule, majority=majority, shares=shares)


def _export_gated(
    finished: FinishedRun, folder: Path, name: str, precision: WeightPrecision, faces: GateFaces
) -> tuple[Path, Comparison]:
    """Write a run's ONNX file if it passes its gate."""
    path, draft = folder / f"{name}.onnx", folder / f".{name}.ungated.onnx"
    network, threads = finished.network, torch.get_num_threads()
    try:
        export_onnx(network, draft, precision=precision, side_px=finished.run.data.alignment.side_px)
        # Both runtimes keep to the threads that the caller gave PyTorch: their idle threads spin, on cores of others.
        comparison = compare(
            torch_runner(network, threads),
            onnx_runner(draft, threads),
            faces,
            RUN_GATES[precision],
            stored=torch_runner(fuse(network, float16=precision == "float16"), threads),
        )
        if comparison.failures:
            advice = "export with float32" if precision == "float16" else "the exported graph is wrong for this network"
            raise WeightsError(
                f"{name} fails its gate on {comparison.faces}: {'; '.join(comparison.failures)}; {advice}"
            )
        draft.replace(path)
    except OSError as error:
        raise WeightsError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return path, comparison


def _gate_faces(finished: FinishedRun, splits: Sequence[tuple[str, TensorSplit]], count: int) -> GateFaces:
    """Choose faces evenly from the first split, then from the next if too few, then synthetic ones."""
    data, parts, words, missing = finished.run.data, [], [], count
    for name, split in splits:
        if not missing:
            break
        rows = torch.linspace(0, len(split) - 1, min(missing, len(split))).round().long()
        # A gray split has one channel, which is repeated.
        parts.append(split.images[rows].permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy())
        words.append(f"{len(rows):,} {name} faces")
        missing -= len(rows)
    if missing:
        parts.append(preprocess(synthetic_crops(finished.classes, data.alignment.side_px, missing), data.preprocessing))
        words.append(f"{missing:,} synthetic faces")
    return GateFaces(parts, " and ".join(words), lambda crops: normalize(crops, data.mean, data.std))


def adjust_logits(
    finished: FinishedRun, train: TensorSplit, valid: TensorSplit, tau: Tau
) -> tuple[FinishedRun, dict[str, Any]]:
    """Shift the logits by the training set's class shares in the last bias; return the run and the card's record."""
    data, row = finished.run.data, finished.row["valid"]
    shares = train.describe().class_shares
    assert shares is not None  # a finished run knows its classes
    logits, targets = evaluate_split(finished.network, valid, data, _BATCH).logits.numpy(), valid.targets.numpy()
    chosen = fit_adjustment(logits, targets, shares, rule=data.validation_rule) if tau == "fit" else tau
    shift = class_shift(shares, chosen).astype(np.float32)
    network, shifted = _shifted(finished.network, torch.from_numpy(shift), valid, finished), logits + shift
    scores = score(shifted, targets, finished.classes, rule=data.validation_rule)
    how = "highest mean class accuracy on validation at no less accuracy" if tau == "fit" else "given"
    record = {
        "tau": chosen,
        "chosen": how,
        "validation_before": {key: row[key] for key in ("n", "correct", "accuracy", "mean_class_accuracy")},
    }
    changed = {**finished.row, "valid": {**row, **scores.to_dict()}}
    return replace(finished, network=network, row=changed), record


def _shifted(network: nn.Module, shift: torch.Tensor, valid: TensorSplit, finished: FinishedRun) -> nn.Module:
    """Return a copy whose logits are higher by this shift, measured on some images."""
    changed = copy.deepcopy(network)
    last = [module for module in changed.modules() if isinstance(module, nn.Linear)][-1:]
    if last and last[0].bias is not None and last[0].out_features == len(shift):
        with torch.no_grad():
            last[0].bias.add_(shift)
        few = valid.subset(torch.arange(min(len(valid), _BATCH)))
        before, after = (evaluate_split(one, few, finished.run.data, _BATCH).logits for one in (network, changed))
        if torch.allclose(after, before + shift, atol=_TOLERANCE, rtol=_TOLERANCE):
            return changed
    raise ConfigError(
        f"the network {finished.run.model.name} does not end in a linear layer with a bias, so its logits cannot be "
        "adjusted; export it without --logit-adjustment"
    )
