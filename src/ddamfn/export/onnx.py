"""A trained network as an ONNX file that needs no PyTorch: one input, logits and attention maps out."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError, WeightsError
from ddamfn.files import write_bytes
from ddamfn.models import ModelOutput
from ddamfn.models.fused import SMALLEST_ROUNDED, fuse
from ddamfn.weights import WEIGHT_PRECISIONS, WeightPrecision

INPUT_NAME, OUTPUT_NAMES = "input", ("logits", "attention")
OPSET = 18

_FOLDED = 64
"""Size of the largest constant computed while exporting, such as the sizes of a padding."""


class _Outputs(nn.Module):
    """The exported network's outputs: logits (N, K), and attention maps as channel means (N, A, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(images)
        assert isinstance(output, ModelOutput)
        return output.logits, output.attention.mean(dim=2)


def exported_outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs that the exported file must give for `images` (N, 3, H, W), in evaluation mode."""
    with torch.inference_mode():
        logits, attention = _Outputs(network).eval()(images)
    return logits, attention


def export_onnx(
    network: nn.Module, path: str | os.PathLike[str], *, precision: WeightPrecision = "float32", side_px: int = 112
) -> Path:
    """Write a network as ONNX; whether it computes the same is for `ddamfn.export.gates.compare` to measure.

    The file has the input `input` float32 (N, 3, side, side), normalized RGB, with any N, and the outputs `logits` (N,
    K) and `attention` (N, A, 7, 7). It holds nothing else: no source paths, no traces, so equal weights give equal
    bytes.

    Args:
        network: trained; it is not changed.
        path: the file to write; its folder is made if need be.
        precision: how weights are stored. `float16` halves the file; they are cast to float32 when a session opens it,
            so inference computes in float32 either way.
        side_px: side of the square input.

    Raises:
        ConfigError: if the precision is unknown.
        WeightsError: if a weight is not finite or too large for float16, or if the file cannot be written.
    """
    import onnx
    import onnxscript.optimizer

    if precision not in WEIGHT_PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}: use one of {', '.join(WEIGHT_PRECISIONS)}")
    bad = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise WeightsError(f"{bad[0]} has values that are not finite: this network diverged, export another checkpoint")
    small = fuse(network, float16=precision == "float16")
    if not all(bool(torch.isfinite(value).all()) for value in small.parameters()):
        raise WeightsError("a folded weight is too large for float16: export with float32")
    module = _Outputs(small).eval()
    # Two images: torch takes a batch of one for a constant.
    example = torch.zeros(2, 3, side_px, side_px)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes=({0: "batch"},),
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # Only small constants are computed now: the zeros that `fuse` leaves to the runtime would be stored.
        onnxscript.optimizer.optimize(program.model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    model = program.model_proto
    _strip(model)
    if precision == "float16":
        _store_float16(model)
    onnx.checker.check_model(model, full_check=True)
    target = Path(path)
    try:
        write_bytes(target, model.SerializeToString(deterministic=True))
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror or error}") from None
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which prints progress, internal warnings, and that torchvision is missing."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _strip(model: Any) -> None:
    """Remove the exporter's metadata about the machine and the source code.

    The shapes of inner values are kept because the runtime cannot infer them past an upsampling with any N: without
    them it takes equal shapes for different ones and leaves its fast layout at every product.
    """
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("doc_string")
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    graph.name = "ddamfn"
    model.producer_name, model.producer_version = "ddamfn", ""


def _store_float16(model: Any) -> None:
    """Store rounded float32 initializers as float16 with a Cast that the runtime folds at load; `fuse` rounded them."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALLEST_ROUNDED:
            continue
        values = numpy_helper.to_array(tensor)
        short = values.astype(np.float16)
        if not np.array_equal(short.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(short, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [f"{name}.float16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
