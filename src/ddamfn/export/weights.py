"""A run's checkpoint to a weights file and its card: export, gate, calibrate, describe."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddamfn.errors import UsageError, WeightsError
from ddamfn.evaluate import fit_temperature
from ddamfn.evaluate.calibration import measure_calibration
from ddamfn.export.adjusting import Tau, adjust_logits
from ddamfn.export.card import build_card, seeds_record
from ddamfn.export.command import export_command
from ddamfn.export.gates import LEAST_FACES, Parity, check_parity
from ddamfn.export.lean import Precision
from ddamfn.export.onnx import export_onnx
from ddamfn.faces import normalize, preprocess
from ddamfn.preparation import Prepared
from ddamfn.synthetic import synthetic_face
from ddamfn.train import load_splits
from ddamfn.train.augment import to_input
from ddamfn.train.run_folder import FinishedRun
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit
from ddamfn.weights import Card, sha256, write_card

log = logging.getLogger(__name__)

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the ONNX file; the card lies beside it.
        card: its card.
        parity: the figures of its gate.
        faces: what the gate was measured on, in words.
    """

    path: Path
    card: Card
    parity: Parity
    faces: str


def export_run(
    finished: FinishedRun,
    name: str,
    folder: str | Path,
    *,
    precision: Precision = "float32",
    prepared: Prepared | None = None,
    adjustment: Tau = 0.0,
    seeds: Sequence[FinishedRun] = (),
    least_faces: int = LEAST_FACES,
) -> Exported:
    """Export a checkpoint; nothing is left behind if the file does not pass its gate.

    Args:
        finished: the run and its checkpoint.
        name: of the weights and their files.
        folder: where to write; made if need be.
        precision: how weights are stored.
        prepared: the run's prepared data set. The gate is then measured on its validation faces (and on training and
            synthetic faces if those are fewer than `least_faces`); temperature and the curve of precision against
            coverage are fitted on validation. Without it the gate is measured on synthetic faces, the temperature
            is 1, and the weights cannot abstain. The test split is never opened.
        adjustment: tau of logit adjustment, by which rare classes are answered more often; "fit" chooses it on
            validation. Other than 0 it needs `prepared`.
        seeds: runs of the same recipe with other seeds, whose validation figures go onto the card.
        least_faces: how many faces the gate needs.

    Raises:
        WeightsError: if the gate fails or a file cannot be written.
        DataError: if the prepared set is another data set's.
        ConfigError: if the logits shall be adjusted and the network does not end in a linear layer with a bias, or if
            `seeds` holds another kind of run.
        UsageError: if the logits shall be adjusted and no data are given.
    """
    if adjustment != 0 and prepared is None:
        raise UsageError("logits are adjusted by the classes' shares of the training images: add --data ROOT")
    place = Path(folder)
    notes: dict[str, Any] = {"seeds": seeds_record(finished, seeds)} if seeds else {}
    temperature, calibration, fitted_on = 1.0, None, "not fitted: no data given"
    if prepared is None:
        inputs, faces = _drawn_inputs(finished, least_faces), f"{least_faces:,} synthetic faces"
    else:
        train, valid = load_splits(prepared, finished.run, torch.device("cpu"))
        logits = evaluate_split(finished.network, valid, finished.run.data, _BATCH).logits.numpy()
        if adjustment != 0:
            finished, logits, notes["logit_adjustment"] = adjust_logits(finished, train, valid, logits, adjustment)
        inputs, faces = _data_inputs(finished, train, valid, least_faces)
        temperature = fit_temperature(logits, valid.targets.numpy())
        rule = finished.run.data.validation_rule
        calibration = measure_calibration(logits, valid.targets.numpy(), temperature, rule=rule)
        fitted_on = f"{len(valid):,} validation images, rule {rule}"
    path, draft = place / f"{name}.onnx", place / f".{name}.ungated.onnx"
    try:
        place.mkdir(parents=True, exist_ok=True)
        export_onnx(finished.network, draft, precision=precision, side_px=finished.run.data.alignment.side_px)
        parity = check_parity(finished.network, draft, inputs, precision, least_faces=least_faces)
        content = draft.read_bytes()
        draft.replace(path)
    except OSError as error:
        raise WeightsError(f"cannot write {place}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    notes["export_command"] = export_command(
        name, finished.checkpoint, precision, adjustment, has_data=prepared is not None
    )
    notes |= {"temperature": fitted_on, "parity": {"faces": faces, **parity.to_dict()}}
    card = build_card(
        finished,
        name,
        file=path.name,
        sha256=sha256(content),
        precision=precision,
        temperature=temperature,
        calibration=calibration,
        trained_on=prepared,
        notes=notes,
    )
    write_card(card, path.with_suffix(".json"))
    log.info("exported %s, %d bytes, gate: %s", path, len(content), parity)
    return Exported(path, card, parity, faces)


def _data_inputs(
    finished: FinishedRun, train: TensorSplit, valid: TensorSplit, count: int
) -> tuple[NDArray[np.float32], str]:
    """Normalized faces spread evenly over validation, over train where validation has too few, then drawn ones."""
    chosen = _spread(valid, count)
    words = f"{len(chosen):,} validation faces"
    if len(chosen) < count:
        more = _spread(train, count - len(chosen))
        chosen, words = torch.cat([chosen, more]), f"{words} and {len(more):,} training faces"
    inputs = to_input(chosen.float() / 255, finished.run.data.mean, finished.run.data.std).contiguous().numpy()
    if len(inputs) < count:
        drawn = _drawn_inputs(finished, count - len(inputs))
        inputs, words = np.concatenate([inputs, drawn]), f"{words} and {len(drawn):,} synthetic faces"
    return inputs, words


def _spread(split: TensorSplit, count: int) -> Tensor:
    rows = torch.linspace(0, len(split) - 1, min(count, len(split))).round().long()
    return split.images[rows]


def _drawn_inputs(finished: FinishedRun, count: int) -> NDArray[np.float32]:
    """Normalized synthetic faces of all the network's classes."""
    generator, side = np.random.default_rng(0), finished.run.data.alignment.side_px
    labels = [finished.classes[i % len(finished.classes)] for i in range(count)]
    crops = np.stack([synthetic_face(label, generator, side)[0] for label in labels])
    return normalize(preprocess(crops, finished.run.data.preprocessing), finished.run.data.mean, finished.run.data.std)
