"""Initial weights of a run: run folders, safetensors, exported files."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ddamfn.errors import ConfigError, WeightsError
from ddamfn.files import sha256_file
from ddamfn.models import create_network
from ddamfn.models.fused import unfuse
from ddamfn.train.run_folder import load_weights_file
from ddamfn.weights import Card, find_weights, list_weights, verify

_PREFIX = "network."


def read_exported(weights: str | os.PathLike[str]) -> tuple[nn.Module, Card]:
    """Read bundled weights or an exported file into a float32 CPU network in evaluation mode, and its card."""
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
    """Build the network that a card describes, with fresh weights."""
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
    """Read an exported file's weights, by the fused network's names, float32; `path` is for messages."""
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


log = logging.getLogger(__name__)

_IN_A_RUN = ("trunk", "best", "last")
"""Which of a run's networks is taken, the first that is there; only a pretext task leaves a trunk."""

_CHUNK = 128
"""Images that pass a network at once."""


def weights_file(place: str) -> Path:
    """The file that a run's folder, a path, or a name of bundled weights stands for; ConfigError if there is none."""
    path = Path(place)
    if path.is_file():
        return find_weights(path)[0] if path.suffix.lower() == ".json" else path
    for name in _IN_A_RUN:
        inside = path / "checkpoints" / f"{name}.safetensors"
        if inside.is_file():
            return inside
    names = [card.name for card in list_weights()]
    if place in names:
        return find_weights(place)[0]
    raise ConfigError(
        f"{place!r}: no run with kept weights, no .safetensors or .onnx file, and no weights of this package "
        f"({', '.join(names)}); name one of these"
    )


def begin_from(network: nn.Module, place: str, images: Callable[[], Tensor]) -> dict[str, Any]:
    """Load all tensors of a file that fit a network's own by name and shape; return a record of what was taken.

    Weights of an exported file have normalizations without statistics: these get statistics of `images`, normalized
    training images (N, 3, S, S), where the network is.
    """
    path = weights_file(place)
    own, weights = network.state_dict(), _read(path)
    matching = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    if not matching:
        raise ConfigError(f"{path}: none of its {len(weights)} tensors has name and shape of the network's {len(own)}")
    network.load_state_dict(matching, strict=False)
    log.info("%d of the network's %d tensors begin as in %s", len(matching), len(own), path)
    # A layer of the network's own, such as a classifier of other classes, is to stay as fresh as it is.
    blank = [norm for name, norm in _norms(network) if f"{name}.running_var" in matching and _is_blank(norm)]
    if blank:
        log.info("%d normalizations get the statistics of training images", len(blank))
        give_statistics(network, blank, images())
    return {"file": str(path), "sha256": sha256_file(path), "taken": len(matching), "tensors": len(own)}


def _read(path: Path) -> dict[str, Tensor]:
    return load_weights_file(path) if path.suffix.lower() == ".safetensors" else read_exported(path)[0].state_dict()


@torch.no_grad()
def give_statistics(network: nn.Module, norms: Iterable[_BatchNorm], images: Tensor) -> None:
    """Give batch normalizations the statistics of their inputs, and change their affine parts so that outputs stay.

    In training mode, where statistics are those of the batch, outputs nearly stay too. Without this a network
    whose normalizations have no statistics forgets everything in the first step.
    """
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64, device=images.device) for norm in norms}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        count = torch.full_like(values[:, 0], values.shape[1])
        sums[norm] += torch.stack([count, values.sum(dim=1), values.square().sum(dim=1)])  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(measure) for norm in sums]
    training = network.training
    network.eval()
    for chunk in images.split(_CHUNK):
        network(chunk)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for norm, (count, total, squares) in sums.items():
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
        offset = norm.bias.double() - slope * norm.running_mean.double()  # type: ignore[union-attr]
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]
        norm.weight.copy_(slope * (variance + norm.eps).sqrt())
        norm.bias.copy_(offset + slope * mean)


def _norms(network: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]


def _is_blank(norm: _BatchNorm) -> bool:
    """Whether a normalization has never seen an image, or was read back from a file that does not keep what it saw."""
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and not bool(mean.any()) and bool((variance == 1).all())
