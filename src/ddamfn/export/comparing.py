"""The gate of every format: what a converted file may cost, measured beside the float32 ONNX file on the same faces."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddamfn.data.synthetic import drawn_face
from ddamfn.errors import DataError, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export.parity import logit_distance
from ddamfn.faces import Appearance, apply_appearance, normalise
from ddamfn.preparation import Prepared
from ddamfn.train.sources import own_validation
from ddamfn.weights import Card

Format = Literal["onnx", "onnx-int8", "openvino", "safetensors", "hub-folder"]
Runner = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From normalised faces (N, 3, S, S) float32 to logits (N, K) and attention (N, A, 7, 7)."""

RULE = "majority"
"""The vote rule of validation pictures; without meaning for sets with one label a picture."""

_BATCH = 4
_ROUNDS, _TIMED = 12, 2
"""Rounds of the stop watch, and batches of a round."""
_NOISE = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """What a format may cost.

    Attributes:
        difference: largest difference of a logit (see `ddamfn.export.parity.logit_distance`) or attention value; None
            for formats that round on purpose.
        agreement: least share of faces with the same first answer, 0 to 1.
        accuracy: least change of the accuracy on validation pictures, in percentage points.
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
        targets: (V, K) of the first V faces, the validation pictures; None if there are none.
    """

    crops: Sequence[NDArray[np.uint8]]
    words: str
    classes: tuple[str, ...] = ()
    targets: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.crops)

    def inputs(self, card: Card, size: int = _BATCH) -> Iterator[NDArray[np.float32]]:
        """Yield batches of the network's input, prepared as the card says."""
        appearance = Appearance(**card.appearance)
        for part in self.crops:
            for start in range(0, len(part), size):
                chunk = np.asarray(part[start : start + size])
                yield normalise(apply_appearance(chunk, appearance), card.mean, card.std)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A converted file beside the float32 ONNX file.

    Attributes:
        faces: what was compared on, in words.
        n: how many faces.
        logit_difference: largest difference of a logit, as `ddamfn.export.parity.logit_distance` has it.
        attention_difference: largest difference of an attention value.
        agreement: share of faces with the same first answer, 0 to 1.
        validation: pictures with a label; 0 without data.
        accuracy_before: of the ONNX file on them; None without data.
        accuracy_after: of the converted file on them.
        ms_per_face: of the converted file on one thread in batches of four, the median.
        ms_per_face_before: of the ONNX file, measured in turns with it.
        answers: float32 (n, K), the converted file's logits, the validation pictures first.
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


def drawn_faces(card: Card, count: int, seed: int = 0) -> GateFaces:
    """Drawn faces of all the weights' expressions in turn."""
    generator, side = np.random.default_rng(seed), card.input_side_px
    names = [card.labels[index % len(card.labels)] for index in range(count)]
    return GateFaces([np.stack([drawn_face(name, generator, side)[0] for name in names])], f"{count:,} drawn faces")


def validation_faces(card: Card, prepared: Prepared, least: int) -> GateFaces:
    """All validation pictures of a prepared set, filled up with drawn faces where they are fewer than `least`.

    Raises:
        DataError: if the set has no validation split of its own, or that is empty.
    """
    name = own_validation(prepared)
    if name is None:
        raise DataError(f"{prepared.folder} has no validation split of its own: export without --data, on drawn faces")
    part = prepared.split(name, RULE)
    if not len(part):
        raise DataError(f"{prepared.folder}: the split {name} has no picture to measure on")
    crops, words = [part.crops], f"{len(part):,} validation faces"
    if len(part) < least:
        drawn = drawn_faces(card, least - len(part))
        crops, words = [part.crops, *drawn.crops], f"{words} and {drawn.words}"  # type: ignore[list-item]
    return GateFaces(crops, words, prepared.classes, np.asarray(part.targets, np.float32))  # type: ignore[arg-type]


def _accuracy(logits: NDArray[np.float32], faces: GateFaces, card: Card) -> float | None:
    if faces.targets is None:
        return None
    labelled = to_classes(logits[: len(faces.targets)], card.labels, faces.classes)
    return float(score(labelled, faces.targets, faces.classes).accuracy)


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
