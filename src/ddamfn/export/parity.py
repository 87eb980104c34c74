"""The gate of an export: the file must say what the network says."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from ddamfn.errors import WeightsError
from ddamfn.export.lean import Precision, lean
from ddamfn.export.onnx import INPUT_NAME, OUTPUT_NAMES, exported_outputs

LARGEST_DIFFERENCE = 1e-4
"""Between a logit or attention value of the file and of the PyTorch network with the same stored weights; of a face
whose largest logit is above 1, in units of that. Rounding grows with the numbers that are rounded: a picture that is no
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
        inputs: (N, 3, S, S) float32, normalised RGB; N > 0.
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
