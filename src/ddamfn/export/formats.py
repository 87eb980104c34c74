"""Conversion to other formats: convert in a draft folder, compare with float32 ONNX, keep what passes its gate."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ddamfn.classifier import preprocessing_of
from ddamfn.data import RULES
from ddamfn.data.catalog import CARDS
from ddamfn.errors import DataError, UsageError, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.confidence import CALIBRATION_RULE, fit_confidence
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export.card import FIGURES, command_line, preprocessing_card
from ddamfn.export.gates import (
    GATES,
    LEAST_FACES,
    Comparison,
    Exported,
    GateFaces,
    Runner,
    compare,
    convert_to_openvino,
    onnx_runner,
    openvino_runner,
    synthetic_crops,
    torch_runner,
)
from ddamfn.export.int8 import quantize
from ddamfn.export.loading import HUB_CONFIG, HUB_WEIGHTS, LoadedNetwork, load_network
from ddamfn.export.onnx import export_onnx
from ddamfn.faces import Preprocessing, normalize, preprocess
from ddamfn.files import sha256_file
from ddamfn.preparation import Prepared
from ddamfn.preparation.splits import kept_by_majority, own_validation, training_split
from ddamfn.train.initial import options_of
from ddamfn.train.run_folder import save_weights_file
from ddamfn.weights import (
    WEIGHT_FORMATS,
    Card,
    ClassPriorCard,
    WeightFormat,
    WeightPrecision,
    find_weights,
    read_card,
    write_card,
)

log = logging.getLogger(__name__)

_CALIBRATION_FACES = 128
_SUFFIX: dict[WeightFormat, str] = {
    "onnx": ".onnx", "onnx-int8": ".onnx", "openvino": ".xml", "safetensors": ".safetensors", "hub-folder": ".onnx",
}  # fmt: skip
_IN_HUB = "model"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Weights to convert."""

    onnx: Path  # float32 file, the reference of every format
    card: Card
    network: nn.Module  # the same in PyTorch


def open_source(weights: str | os.PathLike[str], scratch: Path) -> Source:
    """Open weights of any form that `load_network` reads, and export those without an ONNX file into `scratch`."""
    loaded = load_network(weights)
    if loaded.card is None:
        raise WeightsError(f"{os.fspath(weights)} has no card, which describes how its faces are prepared")
    path = _own_onnx(weights, loaded)
    if path is None:
        path = export_onnx(loaded.network, scratch / "source.onnx", side_px=loaded.card.input_side_px)
    return Source(path, loaded.card, loaded.network)


def convert(
    source: Source,
    kind: WeightFormat,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    prepared: Prepared | None = None,
    precision: WeightPrecision = "float32",
    preprocessing: Preprocessing | None = None,
    force: bool = False,
    least_faces: int = LEAST_FACES,
    argv: Sequence[str] | None = None,
) -> Exported:
    """Write weights in another format with their card; unless forced, a file that fails its gate is deleted.

    With a prepared set, the gate and the accuracy are measured on validation faces, otherwise on synthetic ones.
    With another `preprocessing` than the card's, confidence is fitted to it on validation faces, and the card loses its
    scores, which are of the old one. The test split is never opened.
    """
    if kind not in WEIGHT_FORMATS:
        raise UsageError(f"there is no format {kind!r}: use one of {', '.join(WEIGHT_FORMATS)}")
    if preprocessing is not None:
        source = _with_preprocessing(source, preprocessing, prepared)
    name = name or (source.card.name if kind == "onnx" else f"{source.card.name}-{kind.removeprefix('onnx-')}")
    place = Path(folder)
    _check_name(place, name, kind)
    faces = _gate_faces(source.card, prepared, least_faces)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place) as draft:
            main, runner = _write(source, kind, Path(draft), name, precision, prepared)
            comparison = compare(onnx_runner(source.onnx), runner, faces, GATES[kind], timed=True)
            if comparison.failures and not force:
                raise WeightsError(
                    f"{name} ({kind}) falls under its gate on {comparison.faces}: {'; '.join(comparison.failures)}; "
                    "nothing is written, --force keeps it all the same"
                )
            card = _card(source, kind, name, main, comparison, precision, argv)
            if kind == "onnx-int8" or preprocessing is not None:
                card = _calibrated(card, comparison, faces, _training_shares(source.card, prepared))
            write_card(card, main.with_suffix(".json"))
            _move(Path(draft), place / name if kind == "hub-folder" else place)
    except OSError as error:
        raise WeightsError(f"cannot write {place}: {error.strerror or error}") from error
    log.info("converted %s to %s: %s", source.card.name, kind, comparison)
    return Exported(place / (name if kind == "hub-folder" else main.name), card, comparison)


def _with_preprocessing(source: Source, preprocessing: Preprocessing, prepared: Prepared | None) -> Source:
    """Return the same network with a card of another preprocessing, without what was measured under the old one."""
    classes = () if prepared is None else prepared.classes
    if set(classes) != set(source.card.labels):
        raise UsageError(
            "another preprocessing needs its confidence fitted: add --data ROOT, a data set with validation images of "
            f"{', '.join(source.card.labels)}"
        )
    field = preprocessing_card(preprocessing)
    return replace(source, card=replace(source.card, preprocessing=field, scores=(), calibration=None))


def _write(
    source: Source, kind: WeightFormat, draft: Path, name: str, precision: WeightPrecision, prepared: Prepared | None
) -> tuple[Path, Runner]:
    """Write the format's files into a draft folder; return the file that the card names, and its runner."""
    card, main = source.card, draft / f"{_IN_HUB if kind == 'hub-folder' else name}{_SUFFIX[kind]}"
    if kind == "onnx":
        if precision == card.precision == "float32":
            shutil.copyfile(source.onnx, main)  # the same network keeps its bytes, and their sha256
        else:
            export_onnx(source.network, main, precision=precision, side_px=card.input_side_px)
        return main, onnx_runner(main)
    if kind == "onnx-int8":
        quantize(source.onnx, main, _calibration_faces(card, prepared).inputs())
        return main, onnx_runner(main)
    if kind == "openvino":
        convert_to_openvino(source.onnx, main)
        return main, openvino_runner(main)
    if kind == "safetensors":
        save_weights_file(source.network.state_dict(), main)
        # Read back by way of `load_network`, as its users will: with the card beside it for as long.
        write_card(replace(card, file=main.name, sha256=sha256_file(main)), main.with_suffix(".json"))
        return main, torch_runner(load_network(main).network)
    from ddamfn.export.hub import HubNetwork

    loaded = LoadedNetwork(source.network, card.architecture["name"], options_of(card), card.labels, card)
    HubNetwork.from_weights(loaded).save_pretrained(draft, model_card_kwargs={"rights": card.rights})
    shutil.copyfile(source.onnx, main)
    return main, torch_runner(load_network(draft / HUB_WEIGHTS).network)


def _gate_faces(card: Card, prepared: Prepared | None, least: int) -> GateFaces:
    """Take the validation images of a prepared set, and synthetic faces where they are fewer than `least`."""
    if prepared is None:
        return _faces(card, [synthetic_crops(card.labels, card.input_side_px, least)], f"{least:,} synthetic faces")
    split = own_validation(prepared)
    if split is None:
        raise DataError(
            f"{prepared.source} has no validation split of its own: export without --data, on synthetic faces"
        )
    part = prepared.split(split, CALIBRATION_RULE)
    if not len(part):
        raise DataError(f"{prepared.source}: the split {split} has no image to measure on")
    crops: list[Any] = [part.crops]
    words, missing = f"{len(part):,} validation faces", least - len(part)
    if missing > 0:
        crops.append(synthetic_crops(card.labels, card.input_side_px, missing))
        words += f" and {missing:,} synthetic faces"
    return replace(
        _faces(card, crops, words),
        classes=prepared.classes,
        targets=np.asarray(part.targets, np.float32),
        rule=part.rule,
        majority=kept_by_majority(prepared, split, part.keys),
    )


def _calibration_faces(card: Card, prepared: Prepared | None) -> GateFaces:
    """Take faces for calibrating ranges: of the training split, or synthetic with another seed than the gate's."""
    if prepared is None:
        return _faces(card, [synthetic_crops(card.labels, card.input_side_px, _CALIBRATION_FACES, seed=1)], "synthetic")
    crops = prepared.split(training_split(prepared)).crops
    step = max(1, len(crops) // _CALIBRATION_FACES)
    return _faces(card, [crops[: step * _CALIBRATION_FACES : step]], "training faces")


def _faces(card: Card, crops: Sequence[Any], words: str) -> GateFaces:
    """Build gate faces with the card's preprocessing."""
    preprocessing = preprocessing_of(card)

    def to_input(part: NDArray[np.uint8]) -> NDArray[np.float32]:
        return normalize(preprocess(part, preprocessing), card.mean, card.std)

    return GateFaces(crops, words, to_input, card.labels)


def _card(
    source: Source,
    kind: WeightFormat,
    name: str,
    main: Path,
    comparison: Comparison,
    precision: WeightPrecision,
    argv: Sequence[str] | None,
) -> Card:
    others = sorted(path for path in main.parent.iterdir() if path.suffix in (".bin", ".safetensors") and path != main)
    export: dict[str, Any] = {
        "format": kind,
        **({"command": command_line(argv)} if argv else {}),
        "made_from": {"name": source.card.name, "sha256": source.card.sha256},
        "gate": comparison.to_dict(),
        "other_files": {path.name: sha256_file(path) for path in others},
    }
    card = replace(source.card, name=name, file=main.name, sha256=sha256_file(main), export=export)
    card = replace(card, architecture={**card.architecture, "options": options_of(card)})
    if kind == "onnx-int8":
        # The float32 file's scores are not this file's: `ddamfn eval --record` adds them.
        prior = card.class_prior
        known: ClassPriorCard | None = prior and {"shares": prior["shares"], "weight": prior["weight"]}
        return replace(card, precision="int8", scores=(), calibration=None, class_prior=known)
    return replace(card, precision=precision if kind == "onnx" else "float32")


def _training_shares(card: Card, prepared: Prepared | None) -> Mapping[str, float] | None:
    """Return the shares of the classes in training: those on the card, else of the prepared set it was trained on."""
    if card.class_prior is not None:
        return card.class_prior["shares"]
    trained, rule = card.training.get("data"), card.training.get("rule")
    if prepared is None or trained is None or rule not in RULES:
        return None
    known, split = CARDS.get(prepared.dataset), training_split(prepared)
    if trained != (known.title if known else prepared.dataset) or split not in prepared.splits:
        return None
    shares = prepared.split(split, rule).targets.mean(axis=0, dtype=np.float64)
    return dict(zip(prepared.classes, shares.tolist(), strict=True)) if shares.all() else None


def _calibrated(card: Card, comparison: Comparison, faces: GateFaces, shares: Mapping[str, float] | None) -> Card:
    """Fit confidence to the file's own logits, and note its accuracy, if there are validation images of all labels."""
    if faces.targets is None or set(faces.classes) != set(card.labels):
        return card
    logits = to_classes(comparison.logits[: len(faces.targets)], card.labels, faces.classes)
    confidence = fit_confidence(
        logits, faces.targets, faces.classes, rule=faces.rule, majority=faces.majority, shares=shares
    )
    measured = score(logits, faces.targets, faces.classes, rule=faces.rule).to_dict()
    export = {**(card.export or {}), "validation": {"rule": faces.rule, **{key: measured[key] for key in FIGURES}}}
    return confidence.on(replace(card, export=export))


def _own_onnx(weights: str | os.PathLike[str], loaded: LoadedNetwork) -> Path | None:
    """Find the float32 ONNX file that belongs to the weights."""
    path = Path(weights)
    if path.is_dir() or path.suffix.lower() == ".safetensors":
        inside = (path if path.is_dir() else path.parent) / f"{_IN_HUB}.onnx"
        return inside if inside.is_file() and (inside.parent / HUB_CONFIG).is_file() else None
    found, _ = find_weights(weights)
    return found if found.suffix.lower() == ".onnx" else None


def _check_name(place: Path, name: str, kind: WeightFormat) -> None:
    """Refuse to overwrite the card of other weights."""
    card_path = place / f"{name}.json"
    if kind == "hub-folder" or not card_path.is_file():
        return
    there = read_card(card_path).file
    if there != f"{name}{_SUFFIX[kind]}":
        raise UsageError(f"{card_path} is the card of {there}: choose another --name")


def _move(draft: Path, place: Path) -> None:
    """Move the finished files into place, the card last, since it makes them usable."""
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(draft.iterdir(), key=lambda path: path.suffix == ".json"):
        path.replace(place / path.name)
