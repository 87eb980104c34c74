"""An exported file's weights back in the PyTorch network that it came from: the inverse of `ddamfn.export.lean`.

The file keeps the parameters of the lean network by their names, so the way back is exact up to rounding:

- a convolution with folded batch normalization gets a normalization that undoes the convolution's new size and adds the
  folded bias;
- a slope is read from the two scales of the split PReLU, and where it is steep the sign goes back out of the mixed
  kernels;
- what `lean` leaves alone is taken over by name.

What was folded cannot be told apart again: the running statistics, 0 and 1, are no longer those of the training. The
network computes the same; before it is trained on, `ddamfn.train.initial` gives it statistics of images again. An
untrained network cannot be read back: the exporter keeps equal tensors once, under one name.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddamfn.errors import WeightsError
from ddamfn.models import create_model
from ddamfn.models.layers import ConvBlock, DirectionalGates, LinearBlock, MixBottleneck, MixedDepthwiseConv
from ddamfn.weights import Card, find_weights, verify

_PREFIX = "network."


def read_exported(weights: str | os.PathLike[str]) -> tuple[nn.Module, Card]:
    """Read an exported file into a network of its own architecture.

    Args:
        weights: the name of bundled weights, or the path of an `.onnx` network or of its `.json` card.

    Returns:
        The network, float32, on the CPU, in evaluation mode; and the card.

    Raises:
        WeightsError: if there are no such weights, or they are damaged, quantized, or do not fit their network.
    """
    path, card = find_weights(weights)
    if path.suffix.lower() != ".onnx":
        raise WeightsError(f"{path} cannot be read into PyTorch: name the .onnx or .safetensors file instead")
    network = network_of(card)
    restore(network, read_initializers(verify(card, path), path), path)
    return network.eval(), card


def network_of(card: Card) -> nn.Module:
    """Build the network that a card describes, with fresh weights.

    Raises:
        WeightsError: if there is no such network here.
    """
    try:
        return create_model(card.architecture["name"], num_classes=len(card.labels), **options_of(card))
    except ValueError as error:
        raise WeightsError(f"the network of {card.name} cannot be built here: {error}") from error


def options_of(card: Card) -> dict[str, Any]:
    """The options of `create_model` that a card's network was built with."""
    made: Mapping[str, Any] = card.architecture
    # Cards of the first version say the number of heads alone.
    heads = {"num_heads": made["num_heads"]} if made["num_heads"] else {}
    return dict(made.get("options", heads))


def read_initializers(content: bytes, path: Path) -> dict[str, Tensor]:
    """Read the weights of an exported file, by the lean network's names, float32.

    Args:
        content: the file's bytes.
        path: for messages.

    Raises:
        WeightsError: if the bytes are no ONNX network, or one that was quantized.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:  # protobuf's own kind, which has no types
        raise WeightsError(f"{path} is no ONNX network: {error}") from error
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node):
        raise WeightsError(f"{path} is quantized, which cannot be undone: load the float32 file that it was made from")
    # A float16 file keeps `name.float16` and a Cast to `name`.
    return {
        tensor.name.removeprefix(_PREFIX).removesuffix(".float16"): torch.from_numpy(
            numpy_helper.to_array(tensor).astype("float32")
        )
        for tensor in graph.initializer
        if tensor.name.startswith(_PREFIX)
    }


def restore(network: nn.Module, values: Mapping[str, Tensor], path: Path) -> None:
    """Put an exported file's weights into a network of the same architecture.

    Args:
        network: built with the options that the exported one had; changed in place.
        values: as `read_initializers` returns them.
        path: for messages.

    Raises:
        WeightsError: if the file lacks a weight of this network, has one of another shape, or has more.
    """
    reader = _Reader(values, path)
    with torch.no_grad():
        _fill(network, "", reader)
    if left := sorted(set(values) - reader.used):
        raise WeightsError(f"{path} holds {left[0]} and {len(left) - 1} more that this network has no place for")


class _Reader:
    """Hands out the file's tensors and remembers which."""

    def __init__(self, values: Mapping[str, Tensor], path: Path) -> None:
        self._values, self._path = values, path
        self.used: set[str] = set()

    def get(self, name: str) -> Tensor:
        if name not in self._values:
            raise WeightsError(
                f"{self._path} does not hold {name} by that name: the export folded it, or the network has other "
                "options than its card says; load the run's folder or a .safetensors file"
            )
        self.used.add(name)
        return self._values[name]

    def bias(self, name: str, count: int) -> Tensor:
        """A bias of `count` numbers or more; the exporter leaves one of zeros alone out of the file."""
        return self.get(name) if name in self._values else torch.zeros(count)

    def copy(self, name: str, target: Tensor) -> None:
        self.put(self.get(name), target, name)

    def put(self, value: Tensor, target: Tensor, name: str) -> None:
        if value.numel() != target.numel():
            raise WeightsError(
                f"{self._path}: {name} has the shape {tuple(value.shape)}, the network needs {tuple(target.shape)}"
            )
        target.copy_(value.reshape(target.shape))


def _fill(module: nn.Module, prefix: str, reader: _Reader) -> None:
    """Fill a known block, or else the module's own tensors and what is inside."""
    for kind, fill in _KNOWN:
        if isinstance(module, kind):
            fill(module, prefix, reader)
            return
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        # Counts of batches matter to training alone and are never exported.
        if not name.endswith("num_batches_tracked"):
            reader.copy(prefix + name, tensor)
    for name, child in module.named_children():
        _fill(child, f"{prefix}{name}.", reader)


def _unfold(conv: nn.Conv2d, norm: nn.BatchNorm2d, bias: Tensor, reader: _Reader, name: str) -> None:
    """Make a normalization that adds `bias`, and weights of `conv` about as large as fresh ones.

    What the old normalization multiplied by is in the weights now, many times more or less than in a fresh network, and
    a learning rate would move them too little or too much. The normalization takes it back, by powers of two and so
    without rounding.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kernels = conv.weight.flatten(1)
    # torch draws them evenly from +-1/sqrt(n), n numbers a kernel.
    fresh = (3 * kernels.shape[1]) ** -0.5
    size = kernels.square().mean(dim=1).sqrt()
    power = torch.where(size > 0, torch.log2(fresh / size).round(), 0.0)
    conv.weight.mul_(torch.exp2(power).reshape(-1, 1, 1, 1))
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.copy_((1.0 + norm.eps) ** 0.5 * torch.exp2(-power))
    reader.put(bias, norm.bias, name)


def _fill_conv_block(block: ConvBlock, prefix: str, reader: _Reader) -> None:
    _fill_folded(block.conv, block.norm, f"{prefix}0.", reader)
    _fill_slope(block.act, f"{prefix}1.", reader)


def _fill_linear_block(block: LinearBlock, prefix: str, reader: _Reader) -> None:
    _fill_folded(block.conv, block.norm, prefix, reader)


def _fill_folded(conv: nn.Module, norm: nn.Module, prefix: str, reader: _Reader) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    reader.copy(f"{prefix}weight", conv.weight)
    _unfold(conv, norm, reader.bias(f"{prefix}bias", norm.num_features), reader, f"{prefix}bias")


def _fill_slope(act: nn.Module, prefix: str, reader: _Reader) -> Tensor:
    """Fill a PReLU from its split form; return the sign of each channel, (C,)."""
    assert isinstance(act, nn.PReLU)
    linear, rectified = reader.get(f"{prefix}linear").flatten(), reader.get(f"{prefix}rectified").flatten()
    steep = rectified < 0
    reader.put(torch.where(steep, 1 - rectified, linear), act.weight, f"{prefix}linear")
    return torch.where(steep, -1.0, 1.0)


def _fill_bottleneck(block: MixBottleneck, prefix: str, reader: _Reader) -> None:
    _fill_folded(block.expand.conv, block.expand.norm, f"{prefix}expand.", reader)
    sign = _fill_slope(block.expand.act, f"{prefix}act.", reader)
    assert isinstance(block.mix, MixedDepthwiseConv)
    convs = [conv for conv in block.mix.convs if isinstance(conv, nn.Conv2d)]
    for index, (conv, part) in enumerate(zip(convs, sign.split(block.mix.splits), strict=True)):
        name = f"{prefix}mix.kernels.{index}"
        reader.put(reader.get(name) * part.reshape(-1, 1, 1, 1), conv.weight, name)
    _fill(block.attend, f"{prefix}attend.", reader)
    _fill(block.project, f"{prefix}project.", reader)


def _fill_gates(gates: DirectionalGates, prefix: str, reader: _Reader) -> None:
    reader.copy(f"{prefix}squeeze", gates.squeeze.weight)
    assert gates.squeeze.bias is not None
    gates.squeeze.bias.zero_()
    # The lean bias is as long as a block of the runtime's layout; what is beyond the network's own is zero.
    bias = reader.bias(f"{prefix}bias", gates.norm.num_features)[: gates.norm.num_features]
    _unfold(gates.squeeze, gates.norm, bias, reader, f"{prefix}bias")
    _fill(gates.gate_h, f"{prefix}gate_h.", reader)
    _fill(gates.gate_w, f"{prefix}gate_w.", reader)


_KNOWN: tuple[tuple[type[nn.Module], Callable[..., None]], ...] = (
    (MixBottleneck, _fill_bottleneck),
    (DirectionalGates, _fill_gates),
    (ConvBlock, _fill_conv_block),
    (LinearBlock, _fill_linear_block),
)
