"""Static int8 quantization of an exported file by ONNX Runtime.

Only dense 1x1 convolutions are quantized: they hold most parameters and multiplications. Depthwise ones stay float32:
the runtime lacks fast integer kernels for them, and quantizing all is slower than float32.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, for the arithmetic; the tool is onnxruntime.quantization.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ddamfn.errors import WeightsError
from ddamfn.export.onnx import INPUT_NAME

_LEAST_CHANNELS = 64
"""Of a convolution's inputs and outputs; narrower ones, in attention gates, cost little and lose most."""


class _Faces:
    """Calibration batches in the form that onnxruntime expects."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def quantize(source: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """Write an int8 copy of a float32 file, calibrated on batches (n, 3, S, S) float32 that its gate does not use."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        _fold(source, folded)
        model = onnx.load(folded)
        dense = _name_dense(model)
        if not dense:
            raise WeightsError(f"{source.name} has no convolution that is worth eight bits: keep it as float32")
        onnx.save(model, folded)
        root = logging.getLogger()
        level = root.level
        # The tool advises on the root logger to pre-process what has been folded here already.
        root.setLevel(logging.ERROR)
        try:
            quantize_static(
                str(folded),
                str(target),
                _Faces(batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=dense,
            )
        except Exception as error:  # the tool raises whatever goes wrong inside
            raise WeightsError(f"cannot quantize {source.name}: {' '.join(str(error).split())}") from error
        finally:
            root.setLevel(level)


def _fold(source: Path, target: Path) -> None:
    """Fold constants with the runtime."""
    # Weights are padded and cast inside the file, and the tool quantizes stored ones alone.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _name_dense(model: Any) -> list[str]:
    """Name all nodes, and return the names of dense 1x1 convolutions."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    dense = []
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node{index}"
        shape = shapes.get(node.input[1], ()) if node.op_type == "Conv" else ()
        if shape[2:] == (1, 1) and min(shape[:2]) >= _LEAST_CHANNELS:
            dense.append(node.name)
    return dense
