"""An exported file's weights back in the PyTorch network that it came from; see `ddamfn.models.fused.unfuse`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddamfn.errors import WeightsError
from ddamfn.models import create_network
from ddamfn.models.fused import unfuse
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
    values = read_initializers(verify(card, path), path)
    try:
        unfuse(network, values)
    except ValueError as error:
        raise WeightsError(f"{path} does not fit its network: {error}") from error
    return network.eval(), card


def network_of(card: Card) -> nn.Module:
    """Build the network that a card describes, with fresh weights.

    Raises:
        WeightsError: if there is no such network here.
    """
    try:
        return create_network(card.architecture["name"], num_classes=len(card.labels), **options_of(card))
    except ValueError as error:
        raise WeightsError(f"the network of {card.name} cannot be built here: {error}") from error


def options_of(card: Card) -> dict[str, Any]:
    """Return the options of `create_network` that a card's network was built with."""
    made: Mapping[str, Any] = card.architecture
    # Without options a card has the number of heads alone.
    heads = {"num_heads": made["num_heads"]} if made["num_heads"] else {}
    return dict(made.get("options", heads))


def read_initializers(content: bytes, path: Path) -> dict[str, Tensor]:
    """Read the weights of an exported file, by the fused network's names, float32; `path` is for messages.

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
