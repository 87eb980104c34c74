"""Weights to another format: convert aside, compare with the float32 ONNX file, keep what passes its gate."""

import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from torch import nn

from ddamfn.errors import MissingExtra, UsageError, WeightsError
from ddamfn.evaluate import fit_temperature
from ddamfn.evaluate.calibration import measure_calibration
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export.command import conversion_command
from ddamfn.export.gates import (
    GATES,
    LEAST_FACES,
    RULE,
    Comparison,
    Format,
    GateFaces,
    Runner,
    compare,
    onnx_runner,
    openvino_runner,
    synthetic_faces,
    torch_runner,
    validation_faces,
)
from ddamfn.export.int8 import quantize
from ddamfn.export.lean import Precision
from ddamfn.export.loading import HUB_CONFIG, HUB_WEIGHTS, LoadedNetwork, load_network
from ddamfn.export.onnx import export_onnx
from ddamfn.preparation import Prepared
from ddamfn.preparation.splits import training_split
from ddamfn.train.restore import options_of
from ddamfn.train.run_folder import save_weights_file
from ddamfn.weights import Card, find_weights, sha256, write_card

log = logging.getLogger(__name__)

FORMATS: tuple[Format, ...] = get_args(Format)

_CALIBRATION_FACES = 128
_SUFFIX: dict[Format, str] = {
    "onnx": ".onnx", "onnx-int8": ".onnx", "openvino": ".xml", "safetensors": ".safetensors", "hub-folder": ".onnx",
}  # fmt: skip
_IN_HUB = "model"


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        path: the network's file, or the hub folder.
        card: its card.
        comparison: what the gate measured.
        failures: what is beyond the gate, if the file was forced; else empty.
    """

    path: Path
    card: Card
    comparison: Comparison
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Weights to convert.

    Attributes:
        onnx: their float32 ONNX file, what every format is compared with.
        card: its card.
        network: the same in PyTorch.
    """

    onnx: Path
    card: Card
    network: nn.Module


def open_source(weights: str | os.PathLike[str], scratch: Path) -> Source:
    """Open weights of any form but a run's folder, which is exported first.

    Args:
        weights: as for `load_network`.
        scratch: a folder for the ONNX file of weights that have none.

    Raises:
        WeightsError: if they cannot be read, are quantized, or have no card.
    """
    loaded = load_network(weights)
    if loaded.card is None:
        raise WeightsError(f"{os.fspath(weights)} has no card, so nothing says how its faces are prepared")
    path = _own_onnx(weights, loaded)
    if path is None:
        path = export_onnx(loaded.network, scratch / "source.onnx", side_px=loaded.card.input_side_px)
    return Source(path, loaded.card, loaded.network)


def convert(
    source: Source,
    kind: Format,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    prepared: Prepared | None = None,
    precision: Precision = "float32",
    force: bool = False,
    least_faces: int = LEAST_FACES,
) -> Converted:
    """Write weights in another format; nothing is left behind if they fall under their gate.

    Args:
        source: the weights.
        kind: the format.
        folder: where to write; made if need be.
        name: of the new weights and their files; the old name and the format when None.
        prepared: a prepared data set. The gate is then measured on its validation faces, which also give the change of
            the accuracy; without it on synthetic faces. The test split is never opened.
        precision: of the stored weights, for the format onnx.
        force: keep a file that falls under its gate; its card says so.
        least_faces: how many faces the gate needs.

    Raises:
        UsageError: if the format is unknown, or the name is taken by other weights.
        WeightsError: if the gate fails, or the file cannot be written.
        DataError: if the data set has no validation images.
        MissingExtra: if the format needs a package that is not installed.
    """
    if kind not in FORMATS:
        raise UsageError(f"there is no format {kind!r}: use one of {', '.join(FORMATS)}")
    name = name or (source.card.name if kind == "onnx" else f"{source.card.name}-{kind.removeprefix('onnx-')}")
    place = Path(folder)
    _check_name(place, name, kind)
    if prepared is None:
        faces = synthetic_faces(source.card, least_faces)
    else:
        faces = validation_faces(source.card, prepared, least_faces)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place) as draft:
            main, runner = _write(source, kind, Path(draft), name, precision, prepared)
            comparison = compare(onnx_runner(source.onnx), runner, faces, source.card)
            failures = tuple(comparison.failures(GATES[kind]))
            if failures and not force:
                raise WeightsError(
                    f"{name} ({kind}) falls under its gate on {comparison.faces}: {'; '.join(failures)}; nothing is "
                    "written, --force keeps it all the same"
                )
            command = conversion_command(
                source.card.file, kind, name, precision, has_data=prepared is not None, forced=bool(failures)
            )
            card = _card(source, kind, name, main, comparison, failures, precision, command)
            if kind == "onnx-int8":
                card = _calibrated(card, comparison, faces)
            write_card(card, main.with_suffix(".json"))
            _move(Path(draft), place / name if kind == "hub-folder" else place)
    except OSError as error:
        raise WeightsError(f"cannot write {place}: {error.strerror or error}") from error
    log.info("converted %s to %s: %s", source.card.name, kind, comparison)
    return Converted(place / (name if kind == "hub-folder" else main.name), card, comparison, failures)


def _write(
    source: Source, kind: Format, draft: Path, name: str, precision: Precision, prepared: Prepared | None
) -> tuple[Path, Runner]:
    """Write the format's files into a draft folder; return the one that the card names, and how to run them."""
    main = draft / f"{_IN_HUB if kind == 'hub-folder' else name}{_SUFFIX[kind]}"
    if kind == "onnx":
        export_onnx(source.network, main, precision=precision, side_px=source.card.input_side_px)
        return main, onnx_runner(main)
    if kind == "onnx-int8":
        quantize(source.onnx, main, _calibration(source.card, prepared).inputs(source.card))
        return main, onnx_runner(main)
    if kind == "openvino":
        _write_openvino(source.onnx, main)
        return main, openvino_runner(main)
    if kind == "safetensors":
        save_weights_file(source.network.state_dict(), main)
        return main, _read_back(source, main)
    from ddamfn.export.hub import HubNetwork

    card = source.card
    loaded = LoadedNetwork(source.network, card.architecture["name"], options_of(card), card.labels, card)
    HubNetwork.from_weights(loaded).save_pretrained(draft, model_card_kwargs={"rights": card.rights})
    shutil.copyfile(source.onnx, main)
    return main, torch_runner(load_network(draft / HUB_WEIGHTS).network)


def _read_back(source: Source, path: Path) -> Runner:
    """Run a safetensors file by way of `load_network`, as its users will: with the card beside it for as long."""
    card = replace(source.card, file=path.name, sha256=sha256(path.read_bytes()))
    write_card(card, path.with_suffix(".json"))
    return torch_runner(load_network(path).network)


def _write_openvino(source: Path, target: Path) -> None:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra("openvino", "openvino", "The format openvino") from error
    openvino.save_model(openvino.convert_model(os.fspath(source)), os.fspath(target), compress_to_fp16=False)


def _calibration(card: Card, prepared: Prepared | None) -> GateFaces:
    """Faces to find ranges from: of the training split, or drawn with another seed than those of the gate."""
    if prepared is None:
        return synthetic_faces(card, _CALIBRATION_FACES, seed=1)
    crops = prepared.split(training_split(prepared)).crops
    step = max(1, len(crops) // _CALIBRATION_FACES)
    return GateFaces([crops[: step * _CALIBRATION_FACES : step]], "training faces")


def _card(
    source: Source,
    kind: Format,
    name: str,
    main: Path,
    comparison: Comparison,
    failures: tuple[str, ...],
    precision: Precision,
    command: str,
) -> Card:
    others = sorted(path for path in main.parent.iterdir() if path.suffix in (".bin", ".safetensors") and path != main)
    export: dict[str, Any] = {
        "format": kind,
        "command": command,
        "made_from": {"name": source.card.name, "sha256": source.card.sha256},
        "gate": comparison.to_dict() | {"passed": not failures, "failures": list(failures)},
        "other_files": {path.name: sha256(path.read_bytes()) for path in others},
    }
    card = replace(source.card, name=name, file=main.name, sha256=sha256(main.read_bytes()), export=export)
    card = replace(card, architecture={**card.architecture, "options": options_of(card)})
    if kind == "onnx":
        return replace(card, precision=precision)
    if kind == "onnx-int8":
        # Those of the float32 file, whose answers are not all these: scores are for `ddamfn eval --record` to add.
        return replace(card, precision="int8", scores=(), calibration=None)
    return replace(card, precision="float32")


def _calibrated(card: Card, comparison: Comparison, faces: GateFaces) -> Card:
    """Fit temperature and curve to the file's own answers, where there are validation images of all labels."""
    if faces.targets is None or set(faces.classes) != set(card.labels):
        return card
    logits = to_classes(comparison.answers[: len(faces.targets)], card.labels, faces.classes)
    temperature = fit_temperature(logits, faces.targets)
    curve = measure_calibration(logits, faces.targets, temperature, rule=RULE)
    return replace(card, temperature=temperature, calibration=curve)


def _own_onnx(weights: str | os.PathLike[str], loaded: LoadedNetwork) -> Path | None:
    """The float32 ONNX file that belongs to the weights, if there is one."""
    path = Path(weights)
    if path.is_dir() or path.suffix.lower() == ".safetensors":
        inside = (path if path.is_dir() else path.parent) / f"{_IN_HUB}.onnx"
        return inside if inside.is_file() and (inside.parent / HUB_CONFIG).is_file() else None
    found, _ = find_weights(weights)
    return found if found.suffix.lower() == ".onnx" else None


def _check_name(place: Path, name: str, kind: Format) -> None:
    """Refuse to write over the card of other weights."""
    from ddamfn.weights import read_card

    card_path = place / f"{name}.json"
    if kind == "hub-folder" or not card_path.is_file():
        return
    there = read_card(card_path).file
    if there != f"{name}{_SUFFIX[kind]}":
        raise UsageError(f"{card_path} is the card of {there}: choose another --name")


def _move(draft: Path, place: Path) -> None:
    """Move the finished files to their place, the card last: it makes them usable."""
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(draft.iterdir(), key=lambda path: path.suffix == ".json"):
        path.replace(place / path.name)
