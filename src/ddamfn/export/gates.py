"""Gates: an exported file is kept only if its outputs match the reference."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from ddamfn.errors import DataError, MissingExtra, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export.lean import Precision, lean
from ddamfn.export.onnx import INPUT_NAME, OUTPUT_NAMES, exported_outputs
from ddamfn.faces import Preprocessing, normalize, preprocess
from ddamfn.preparation import Prepared
from ddamfn.preparation.splits import own_validation
from ddamfn.synthetic import synthetic_face
from ddamfn.weights import Card

LARGEST_DIFFERENCE = 1e-4
"""Between a logit or attention value of the file and of the PyTorch network with the same stored weights; of a face
whose largest logit is above 1, in units of that. Rounding grows with the numbers that are rounded: an image that is no
face can have logits of 80, and float32 in another order of sums then differs by more than this in absolute terms."""

LEAST_FACES = 1000
"""On so many faces a gate stands; fewer are refused unless the caller asks for fewer by name."""

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported file is from its network.

    Attributes:
        n: faces compared.
        exactness: largest difference, over logits and attention, to the PyTorch network that has the weights as stored;
            of logits as `logit_distance` has it.
        logit_difference: largest difference of a logit to the trained network, as `logit_distance` has it.
        attention_difference: largest difference of an attention value to the trained network.
        changed: faces whose first answer is not the trained network's.
        precision: how the file stores its weights.
    """

    n: int
    exactness: float
    logit_difference: float
    attention_difference: float
    changed: int
    precision: Precision

    @property
    def passed(self) -> bool:
        """True if the gate holds.

        Every answer must stay and the file must compute what PyTorch computes from the same weights. With float32 the
        same weights are the trained ones; with float16 `logit_difference` says what the rounding cost.
        """
        limited = [self.exactness]
        if self.precision == "float32":
            limited += [self.logit_difference, self.attention_difference]
        return max(limited) <= LARGEST_DIFFERENCE and self.changed == 0

    def to_dict(self) -> dict[str, float | int | str]:
        """Plain values for a card."""
        return {
            "n": self.n,
            "exactness": self.exactness,
            "logit_difference": self.logit_difference,
            "attention_difference": self.attention_difference,
            "changed": self.changed,
            "precision": self.precision,
        }


def measure_parity(
    network: nn.Module, path: str | os.PathLike[str], inputs: NDArray[np.float32], precision: Precision = "float32"
) -> Parity:
    """Compare an exported file with its network on N faces.

    Args:
        network: the trained network, on the CPU.
        path: the ONNX file.
        inputs: (N, 3, S, S) float32, normalized RGB; N > 0.
        precision: how the file stores its weights.

    Raises:
        WeightsError: if there is no face.
    """
    if len(inputs) == 0:
        raise WeightsError("no faces to compare the exported network on")
    options = onnxruntime.SessionOptions()
    # Both runtimes keep to the threads that the caller gave PyTorch: their idle threads spin, on cores of others.
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    stored = lean(network, precision)
    exactness = logits = attention = 0.0
    changed = 0
    for batch in _batches(inputs):
        said = session.run(list(OUTPUT_NAMES), {INPUT_NAME: batch})
        same = [value.numpy() for value in exported_outputs(stored, torch.from_numpy(batch))]
        true = [value.numpy() for value in exported_outputs(network, torch.from_numpy(batch))]
        exactness = max(exactness, logit_distance(said[0], same[0]), _distance(said[1], same[1]))
        logits = max(logits, logit_distance(said[0], true[0]))
        attention = max(attention, _distance(said[1], true[1]))
        changed += int((said[0].argmax(axis=1) != true[0].argmax(axis=1)).sum())
    return Parity(len(inputs), exactness, logits, attention, changed, precision)


def check_parity(
    network: nn.Module,
    path: str | os.PathLike[str],
    inputs: NDArray[np.float32],
    precision: Precision = "float32",
    *,
    least_faces: int = LEAST_FACES,
) -> Parity:
    """Measure and insist: return the figures if the gate holds.

    Args:
        network: as in `measure_parity`.
        path: as in `measure_parity`.
        inputs: as in `measure_parity`.
        precision: as in `measure_parity`.
        least_faces: fewer faces than this are refused.

    Raises:
        WeightsError: if it does not hold, with the figures and what to try; or if there are too few faces.
    """
    if len(inputs) < least_faces:
        raise WeightsError(f"the export is checked on {least_faces} faces, and only {len(inputs)} were given")
    parity = measure_parity(network, path, inputs, precision)
    if not parity.passed:
        advice = "export with float32" if precision == "float16" else "the exported graph is wrong for this network"
        raise WeightsError(
            f"{Path(path).name} fails its gate on {parity.n} faces: {parity.changed} answers changed, logits differ by "
            f"up to {parity.logit_difference:.2g}, attention by {parity.attention_difference:.2g}, from the same "
            f"weights by {parity.exactness:.2g}; {advice}"
        )
    return parity


def logit_distance(said: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Largest difference of a logit, (n, K) both; of a face whose largest true logit is above 1, in units of that."""
    scale = np.maximum(1.0, np.abs(true).max(axis=1, keepdims=True))
    return float((np.abs(said - true) / scale).max())


def _batches(inputs: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(inputs), _BATCH):
        yield np.ascontiguousarray(inputs[start : start + _BATCH])


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    # A network without heads gives no attention values, and those agree.
    return float(np.abs(a - b).max()) if a.size else 0.0


Format = Literal["onnx", "onnx-int8", "openvino", "safetensors", "hub-folder"]
Runner = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From normalized faces (N, 3, S, S) float32 to logits (N, K) and attention (N, A, 7, 7)."""

RULE = "majority"
"""The vote rule of validation images; without meaning for sets with one label an image."""

_COMPARE_BATCH = 4
_ROUNDS, _TIMED = 12, 2
"""Rounds of the stop watch, and batches of a round."""
_NOISE = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """What a format may cost.

    Attributes:
        difference: largest difference of a logit (see `ddamfn.export.gates.logit_distance`) or attention value; None
            for formats that round on purpose.
        agreement: least share of faces with the same first answer, 0 to 1.
        accuracy: least change of the accuracy on validation images, in percentage points.
    """

    difference: float | None
    agreement: float
    accuracy: float


GATES: dict[Format, Gate] = {
    "onnx": Gate(1e-4, 1.0, 0.0),
    "onnx-int8": Gate(None, 0.98, -0.5),
    "openvino": Gate(1e-3, 1.0, 0.0),
    "safetensors": Gate(1e-4, 1.0, 0.0),
    "hub-folder": Gate(1e-4, 1.0, 0.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class GateFaces:
    """Faces that a gate is measured on.

    Attributes:
        crops: uint8 arrays (n, S, S, 3) RGB, one after the other.
        words: what they are.
        classes: canonical names of the columns of `targets`.
        targets: (V, K) of the first V faces, the validation images; None if there are none.
    """

    crops: Sequence[NDArray[np.uint8]]
    words: str
    classes: tuple[str, ...] = ()
    targets: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.crops)

    def inputs(self, card: Card, size: int = _COMPARE_BATCH) -> Iterator[NDArray[np.float32]]:
        """Yield batches of the network's input, prepared as the card says."""
        preprocessing = Preprocessing(**card.preprocessing)
        for part in self.crops:
            for start in range(0, len(part), size):
                chunk = np.asarray(part[start : start + size])
                yield normalize(preprocess(chunk, preprocessing), card.mean, card.std)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A converted file beside the float32 ONNX file.

    Attributes:
        faces: what was compared on, in words.
        n: how many faces.
        logit_difference: largest difference of a logit, as `ddamfn.export.gates.logit_distance` has it.
        attention_difference: largest difference of an attention value.
        agreement: share of faces with the same first answer, 0 to 1.
        validation: images with a label; 0 without data.
        accuracy_before: of the ONNX file on them; None without data.
        accuracy_after: of the converted file on them.
        ms_per_face: of the converted file on one thread in batches of four, the median.
        ms_per_face_before: of the ONNX file, measured in turns with it.
        answers: float32 (n, K), the converted file's logits, the validation images first.
    """

    faces: str
    n: int
    logit_difference: float
    attention_difference: float
    agreement: float
    validation: int
    accuracy_before: float | None
    accuracy_after: float | None
    ms_per_face: float
    ms_per_face_before: float
    answers: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)

    @property
    def accuracy_change(self) -> float | None:
        """Change of the accuracy on validation in percentage points; None without data."""
        if self.accuracy_before is None or self.accuracy_after is None:
            return None
        return 100 * (self.accuracy_after - self.accuracy_before)

    @property
    def speed(self) -> float:
        """How many times as fast as the float32 ONNX file; below 1 it is slower."""
        return self.ms_per_face_before / self.ms_per_face

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        # Two runs of one and the same file differ by as much on a busy machine.
        verdict = "about as fast" if abs(self.speed - 1) < _NOISE else "faster" if self.speed > 1 else "slower"
        words = f"{self.speed:.2f} times as fast as the float32 ONNX file on this machine: {verdict}"
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "answers"}
        return plain | {"accuracy_change": self.accuracy_change, "speed": words}

    def failures(self, gate: Gate) -> list[str]:
        """What is beyond the gate, in words; empty if it holds."""
        largest, change = max(self.logit_difference, self.attention_difference), self.accuracy_change
        found = []
        if gate.difference is not None and not largest <= gate.difference:
            found.append(f"outputs differ by up to {largest:.2g}, allowed {gate.difference:g}")
        if not self.agreement >= gate.agreement:
            found.append(f"{self.agreement:.2%} of the answers agree, needed {gate.agreement:.0%}")
        # Correct answers are counted, so a change of nothing may still be a rounding of their quotient.
        if change is not None and change < gate.accuracy - 1e-9:
            found.append(f"accuracy changes by {change:+.2f} points, allowed {gate.accuracy:+.1f}")
        return found


def compare(before: Runner, after: Runner, faces: GateFaces, card: Card) -> Comparison:
    """Run two networks over the same faces.

    Args:
        before: the float32 ONNX file.
        after: the converted file.
        faces: at least one.
        card: of the ONNX file, for the preparation of faces and the order of labels.

    Raises:
        WeightsError: if there is no face, or the converted file gives other shapes or numbers that are not finite.
    """
    said: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    logit_difference = attention_difference = 0.0
    for batch in faces.inputs(card):
        (logits, attention), (new_logits, new_attention) = before(batch), after(batch)
        if logits.shape != new_logits.shape or attention.shape != new_attention.shape:
            raise WeightsError(f"the converted file gives logits {new_logits.shape}, not {logits.shape}")
        if not np.isfinite(new_logits).all():
            raise WeightsError("the converted file gives logits that are not finite")
        logit_difference = max(logit_difference, logit_distance(new_logits, logits))
        if attention.size:
            attention_difference = max(attention_difference, float(np.abs(attention - new_attention).max()))
        said.append((logits, new_logits))
    if not said:
        raise WeightsError("no faces to compare the converted file on")
    old, new = (np.concatenate(parts) for parts in zip(*said, strict=True))
    ms, ms_before = _time(after, before, next(faces.inputs(card)))
    return Comparison(
        faces=faces.words,
        n=len(old),
        logit_difference=logit_difference,
        attention_difference=attention_difference,
        agreement=float((old.argmax(axis=1) == new.argmax(axis=1)).mean()),
        validation=0 if faces.targets is None else len(faces.targets),
        accuracy_before=_accuracy(old, faces, card),
        accuracy_after=_accuracy(new, faces, card),
        ms_per_face=ms,
        ms_per_face_before=ms_before,
        answers=new,
    )


def synthetic_faces(card: Card, count: int, seed: int = 0) -> GateFaces:
    """Synthetic faces of all the weights' expressions in turn."""
    generator, side = np.random.default_rng(seed), card.input_side_px
    names = [card.labels[index % len(card.labels)] for index in range(count)]
    return GateFaces(
        [np.stack([synthetic_face(name, generator, side)[0] for name in names])], f"{count:,} synthetic faces"
    )


def validation_faces(card: Card, prepared: Prepared, least: int) -> GateFaces:
    """All validation images of a prepared set, filled up with synthetic faces where they are fewer than `least`.

    Raises:
        DataError: if the set has no validation split of its own, or that is empty.
    """
    name = own_validation(prepared)
    if name is None:
        raise DataError(
            f"{prepared.folder} has no validation split of its own: export without --data, on synthetic faces"
        )
    part = prepared.split(name, RULE)
    if not len(part):
        raise DataError(f"{prepared.folder}: the split {name} has no image to measure on")
    crops, words = [part.crops], f"{len(part):,} validation faces"
    if len(part) < least:
        drawn = synthetic_faces(card, least - len(part))
        crops, words = [part.crops, *drawn.crops], f"{words} and {drawn.words}"  # type: ignore[list-item]
    return GateFaces(crops, words, prepared.classes, np.asarray(part.targets, np.float32))  # type: ignore[arg-type]


def _accuracy(logits: NDArray[np.float32], faces: GateFaces, card: Card) -> float | None:
    if faces.targets is None:
        return None
    labeled = to_classes(logits[: len(faces.targets)], card.labels, faces.classes)
    return float(score(labeled, faces.targets, faces.classes).accuracy)


def _time(after: Runner, before: Runner, batch: NDArray[np.float32]) -> tuple[float, float]:
    """Milliseconds a face of two networks, measured in turns, so that a busy machine slows both alike."""
    taken: dict[str, list[float]] = {"after": [], "before": []}
    for _ in range(_ROUNDS):
        for name, runner in (("after", after), ("before", before)):
            start = time.perf_counter()
            for _ in range(_TIMED):
                runner(batch)
            taken[name].append(1000 * (time.perf_counter() - start) / (_TIMED * len(batch)))
    return float(np.median(taken["after"])), float(np.median(taken["before"]))


def onnx_runner(path: str | os.PathLike[str]) -> Runner:
    """Run an ONNX file by ONNX Runtime.

    Raises:
        WeightsError: if the runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise WeightsError(f"ONNX Runtime cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, attention = session.run(list(OUTPUT_NAMES), {INPUT_NAME: inputs})
        return logits, attention

    return run


def torch_runner(network: nn.Module) -> Runner:
    """Run a PyTorch network as it is."""
    network.eval()

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            logits, attention = exported_outputs(network, torch.from_numpy(inputs))
        finally:
            torch.set_num_threads(threads)
        return logits.numpy(), attention.numpy()

    return run


def openvino_runner(path: str | os.PathLike[str]) -> Runner:
    """Run an OpenVINO network (`.xml` with its `.bin`) on the CPU, computing in float32.

    Raises:
        MissingExtra: if openvino is not installed.
        WeightsError: if OpenVINO cannot run it.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra("openvino", "openvino", "The format openvino") from error
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        network = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        said = network({INPUT_NAME: inputs})
        # Copied: the arrays are views of the request's own memory, which the next call overwrites.
        return said[OUTPUT_NAMES[0]].copy(), said[OUTPUT_NAMES[1]].copy()

    return run
