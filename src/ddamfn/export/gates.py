"""Gates: an exported file is kept only if its outputs match those of its source."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from ddamfn.environment import variables
from ddamfn.errors import MissingExtra, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export.onnx import INPUT_NAME, OUTPUT_NAMES, exported_outputs
from ddamfn.synthetic import synthetic_face
from ddamfn.weights import Card, WeightFormat, WeightPrecision

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits (N, K) and attention (N, A, 7, 7)."""
Runner = Callable[[NDArray[np.float32]], Outputs]
"""From normalized faces (N, 3, S, S) float32 to outputs."""

_UNTOLD = {"CI": "true"}
"""With this OpenVINO does not report its import and each conversion over the network; it has no other switch."""
LEAST_FACES = 1000
"""Default number of faces that a gate is measured on."""

_BATCH = 4
_ROUNDS, _TIMED = 12, 2
"""Rounds of timing, and batches per round."""
_NOISE = 0.05
"""Timing difference of two runs of the same file on a busy machine."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits that an exported file must keep."""

    difference: float | None  # of logits (`logit_distance`) and attention; None for formats that round on purpose
    agreement: float = 1.0  # least share of equal predictions, 0..1
    accuracy: float = 0.0  # least change on validation, percentage points
    exactness: float | None = None  # largest difference to PyTorch with the stored weights; None if not measured


GATES: dict[WeightFormat, Gate] = {
    "onnx": Gate(1e-4),
    "onnx-int8": Gate(None, 0.98, -0.5),
    "openvino": Gate(1e-3),
    "safetensors": Gate(1e-4),
    "hub-folder": Gate(1e-4),
}
"""For weights in another format, compared with the float32 ONNX file."""

RUN_GATES: dict[WeightPrecision, Gate] = {
    "float32": Gate(1e-4, exactness=1e-4),
    "float16": Gate(None, exactness=1e-4),
}
"""For the ONNX file of a run, compared with the trained network; float16 may differ by its rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class GateFaces:
    """The faces that a gate is measured on."""

    crops: Sequence[NDArray[np.uint8]]  # uint8 (n, S, S, 3) RGB, concatenated
    words: str  # description for readers
    to_input: Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # crops to network input (n, 3, S, S) float32
    labels: tuple[str, ...] = ()  # of the outputs; needed with targets
    classes: tuple[str, ...] = ()  # canonical names of the columns of `targets`
    targets: NDArray[np.float32] | None = None  # (V, K) of the first V faces, the validation images
    rule: str = ""  # that made the targets
    majority: NDArray[np.bool_] | None = None  # (V,), those that the rule "majority" keeps; None without votes

    def __len__(self) -> int:
        return sum(len(part) for part in self.crops)

    def inputs(self) -> Iterator[NDArray[np.float32]]:
        """Yield batches of the network's input."""
        for part in self.crops:
            for start in range(0, len(part), _BATCH):
                yield self.to_input(np.asarray(part[start : start + _BATCH]))

    def accuracy(self, logits: NDArray[np.float32]) -> float | None:
        """Return the accuracy of logits (n, L), the validation images first; None without targets."""
        if self.targets is None:
            return None
        labeled = to_classes(logits[: len(self.targets)], self.labels, self.classes)
        return float(score(labeled, self.targets, self.classes).accuracy)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """An exported file beside its reference.

    Attributes:
        gate: what the file may cost.
        faces: what was compared on, in words.
        n: how many faces.
        logit_difference: largest difference of a logit, as `logit_distance` has it.
        attention_difference: largest difference of an attention value.
        changed: faces whose predicted class is not the reference's.
        exactness: largest difference of logits and attention to PyTorch with the stored weights; None if not measured.
        validation: images with a label; 0 without data.
        accuracy_before: of the reference on them; None without data.
        accuracy_after: of the file on them.
        ms_per_face: of the file on one thread in batches of four, the median; None if not measured.
        ms_per_face_before: of the reference, measured alternately with the file.
        logits: float32 (n, K) of the file, the validation images first.
    """

    gate: Gate
    faces: str
    n: int
    logit_difference: float
    attention_difference: float
    changed: int
    exactness: float | None = None
    validation: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    ms_per_face: float | None = None
    ms_per_face_before: float | None = None
    logits: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)

    @property
    def agreement(self) -> float:
        """Share of faces with the same predicted class, 0 to 1."""
        return (self.n - self.changed) / self.n

    @property
    def accuracy_change(self) -> float | None:
        """Change of the accuracy on validation in percentage points; None without data."""
        if self.accuracy_before is None or self.accuracy_after is None:
            return None
        return 100 * (self.accuracy_after - self.accuracy_before)

    @property
    def speed(self) -> float | None:
        """How many times as fast as the reference, below 1 if it is slower; None if not measured."""
        if self.ms_per_face is None or self.ms_per_face_before is None:
            return None
        return self.ms_per_face_before / self.ms_per_face

    @property
    def failures(self) -> tuple[str, ...]:
        """What is beyond the gate, in words; empty if it holds."""
        gate, change, found = self.gate, self.accuracy_change, []
        exactness = math.nan if self.exactness is None else self.exactness
        largest = max(self.logit_difference, self.attention_difference)
        if gate.difference is not None and not largest <= gate.difference:
            found.append(f"outputs differ by up to {largest:.2g}, allowed {gate.difference:g}")
        if gate.exactness is not None and not exactness <= gate.exactness:
            found.append(f"PyTorch with the stored weights differs by {exactness:.2g}, allowed {gate.exactness:g}")
        if not self.agreement >= gate.agreement:
            found.append(f"{self.agreement:.2%} of the predictions agree, needed {gate.agreement:.0%}")
        # Correct predictions are counted, so a change of nothing may still be a rounding of their quotient.
        if change is not None and change < gate.accuracy - 1e-9:
            found.append(f"accuracy changes by {change:+.2f} points, allowed {gate.accuracy:+.1f}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return what was measured as plain values for a card."""
        measured = (
            "faces", "n", "logit_difference", "attention_difference", "changed", "agreement", "exactness", "validation",
            "accuracy_before", "accuracy_after", "accuracy_change", "ms_per_face", "ms_per_face_before",
        )  # fmt: skip
        plain = {name: getattr(self, name) for name in measured if getattr(self, name) is not None}
        if self.speed is not None:
            verdict = "about as fast" if abs(self.speed - 1) < _NOISE else "faster" if self.speed > 1 else "slower"
            plain["speed"] = f"{self.speed:.2f} times as fast as the reference on this machine: {verdict}"
        return plain | {"passed": not self.failures, "failures": list(self.failures)}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    path: Path  # of the network, beside its card; or of the hub folder
    card: Card
    comparison: Comparison  # has failures only if forced


def compare(
    reference: Runner,
    candidate: Runner,
    faces: GateFaces,
    gate: Gate,
    *,
    stored: Runner | None = None,
    timed: bool = False,
) -> Comparison:
    """Run a reference and an exported file over the same faces.

    Args:
        reference: what the file was made from: the trained network, or the float32 ONNX file.
        candidate: the exported file.
        faces: at least one.
        gate: the limits.
        stored: the PyTorch network with the weights as the file stores them, for `exactness`.
        timed: measure the speed of both.

    Raises:
        WeightsError: if there is no face, or the file gives other shapes or numbers that are not finite.
    """
    if not len(faces):
        raise WeightsError("no faces to compare the exported file on")
    logits: list[Outputs] = []
    differences: list[tuple[float, float]] = []
    exactness: list[float] = []
    for batch in faces.inputs():
        expected, given = reference(batch), candidate(batch)
        for name, one, other in zip(OUTPUT_NAMES, expected, given, strict=True):
            if one.shape != other.shape:
                raise WeightsError(f"the exported file gives {name} {other.shape}, not {one.shape}")
            if not np.isfinite(other).all():
                raise WeightsError(f"the exported file gives {name} that are not finite")
        logits.append((expected[0], given[0]))
        differences.append(_distances(given, expected))
        if stored is not None:
            exactness.extend(_distances(given, stored(batch)))
    old, new = (np.concatenate(parts) for parts in zip(*logits, strict=True))
    ms, ms_before = _time(candidate, reference, next(faces.inputs())) if timed else (None, None)
    logit_difference, attention_difference = np.max(differences, axis=0).tolist()
    return Comparison(
        gate,
        faces.words,
        n=len(old),
        logit_difference=logit_difference,
        attention_difference=attention_difference,
        changed=int((old.argmax(axis=1) != new.argmax(axis=1)).sum()),
        exactness=max(exactness, default=None),
        validation=0 if faces.targets is None else len(faces.targets),
        accuracy_before=faces.accuracy(old),
        accuracy_after=faces.accuracy(new),
        ms_per_face=ms,
        ms_per_face_before=ms_before,
        logits=new,
    )


def logit_distance(given: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference of logits (n, K), relative to a face's largest expected logit where that exceeds 1.

    Rounding errors grow with the logits: those of an image without a face can reach 80, and another order of
    float32 sums then exceeds an absolute limit.
    """
    scale = np.maximum(1.0, np.abs(expected).max(axis=1, keepdims=True))
    return float((np.abs(given - expected) / scale).max())


def _distances(given: Outputs, expected: Outputs) -> tuple[float, float]:
    # A network without heads gives no attention values, and those agree.
    return logit_distance(given[0], expected[0]), float(np.abs(given[1] - expected[1]).max(initial=0.0))


def _time(after: Runner, before: Runner, batch: NDArray[np.float32]) -> tuple[float, float]:
    """Return the milliseconds per face of two networks, run alternately so that a busy machine slows both alike."""
    taken: dict[Runner, list[float]] = {after: [], before: []}
    for _ in range(_ROUNDS):
        for runner, times in taken.items():
            start = time.perf_counter()
            for _ in range(_TIMED):
                runner(batch)
            times.append(1000 * (time.perf_counter() - start) / (_TIMED * len(batch)))
    return float(np.median(taken[after])), float(np.median(taken[before]))


def synthetic_crops(labels: Sequence[str], side_px: int, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw synthetic faces of all labels in turn, (count, S, S, 3) RGB."""
    generator, faces = _drawing(tuple(labels), side_px, seed)
    for i in range(len(faces), count):
        faces.append(synthetic_face(labels[i % len(labels)], generator, side_px)[0])
    return np.stack(faces[:count])


@lru_cache(maxsize=2)
def _drawing(labels: tuple[str, ...], side_px: int, seed: int) -> tuple[np.random.Generator, list[NDArray[np.uint8]]]:
    """Return a generator and the faces that it has drawn: the same are asked for with every format of one export."""
    return np.random.default_rng(seed), []


def onnx_runner(path: str | os.PathLike[str], num_threads: int = 1) -> Runner:
    """Return a runner of an ONNX file on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise WeightsError(f"ONNX Runtime cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> Outputs:
        logits, attention = session.run(list(OUTPUT_NAMES), {INPUT_NAME: inputs})
        return logits, attention

    return run


def torch_runner(network: nn.Module, num_threads: int = 1) -> Runner:
    """Run a PyTorch network as it is."""
    network.eval()

    def run(inputs: NDArray[np.float32]) -> Outputs:
        threads = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            logits, attention = exported_outputs(network, torch.from_numpy(inputs))
        finally:
            torch.set_num_threads(threads)
        return logits.numpy(), attention.numpy()

    return run


def openvino_runner(path: str | os.PathLike[str]) -> Runner:
    """Return a runner of an OpenVINO network (`.xml` and `.bin`) on the CPU in float32."""
    openvino = import_openvino()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        network = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> Outputs:
        given = network({INPUT_NAME: inputs})
        # Copied: the arrays are views of the request's own memory, which the next call overwrites.
        return given[OUTPUT_NAMES[0]].copy(), given[OUTPUT_NAMES[1]].copy()

    return run


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, or raise MissingExtra."""
    try:
        with variables(_UNTOLD):
            import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra("openvino", "openvino", "The format openvino") from error
    return openvino


def convert_to_openvino(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write an ONNX file as an OpenVINO network, `target` and the `.bin` beside it, in float32."""
    openvino = import_openvino()
    with variables(_UNTOLD):
        network = openvino.convert_model(os.fspath(path))
    openvino.save_model(network, os.fspath(target), compress_to_fp16=False)
