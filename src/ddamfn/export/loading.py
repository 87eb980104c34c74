"""Trained weights in a PyTorch network, from any form that stores them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddamfn.errors import UsageError, WeightsError
from ddamfn.models import create_network
from ddamfn.train.initial import network_of, options_of, read_exported
from ddamfn.weights import Card, find_weights, read_card, verify

HUB_CONFIG, HUB_WEIGHTS = "config.json", "model.safetensors"
"""Files of a hub folder, named as huggingface_hub names them."""

_PART_OF_HUB = "network."
"""Prefix that the hub's wrapper adds to the names of a network's tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNetwork:
    """A network with trained weights and their metadata."""

    network: nn.Module  # float32, on the CPU, in evaluation mode
    architecture: str  # name for `create_model`
    options: Mapping[str, Any]  # for `create_model`
    labels: tuple[str, ...]  # canonical, in output order
    card: Card | None  # None for a run's folder and a hub folder without one


def load_network(weights: str | os.PathLike[str]) -> LoadedNetwork:
    """Load a network from bundled weights, `.onnx`, a card, `.safetensors`, a run, a checkpoint, or a hub folder.

    Nothing is downloaded. Raises WeightsError for unusable weights, TrainingError for a run without a readable
    checkpoint.
    """
    path = Path(weights)
    if path.is_dir():
        return _from_hub_folder(path) if (path / HUB_WEIGHTS).is_file() else _from_run(path, "best")
    if path.suffix.lower() == ".safetensors" and path.is_file():
        return _from_safetensors(path)
    network_path, _ = find_weights(weights)
    if network_path.suffix.lower() == ".safetensors":
        return _from_safetensors(network_path)
    return _described(*read_exported(weights))


def create_model(
    name: str, *, num_classes: int | None = None, weights: str | os.PathLike[str] | None = None, **options: Any
) -> nn.Module:
    """Build a network, with fresh weights or with trained ones.

    Examples:
        >>> from ddamfn import create_model
        >>> network = create_model("ddamfn", weights="ddamfn-ferplus")  # doctest: +SKIP
        >>> network(images).logits  # doctest: +SKIP

    Args:
        name: one of `list_models()`.
        num_classes: K >= 2, the number of expressions; may be left out where the weights have it.
        weights: as for `load_network`, or a bare `.safetensors` state dict; None for torch's default initialization,
            from its global generator.
        options: the network's own switches, such as `num_heads` of DDAMFN; weights that know theirs need none.

    Returns:
        The network on the CPU, which takes batches of any size; in evaluation mode with trained weights, else in
        training mode.

    Raises:
        ValueError: if the name is unknown or an option does not fit.
        UsageError: if `num_classes` is missing, or the weights are of another network, number of classes or options.
        WeightsError: as `load_network`.
    """
    if weights is None or _is_bare(Path(weights)):
        if num_classes is None:
            raise UsageError("num_classes is missing: pass the number of expressions, or weights that have it")
        network = create_network(name, num_classes=num_classes, **options)
        if weights is not None:
            _fill(network, _read_safetensors(Path(weights)), Path(weights))
            network.eval()
        return network
    loaded = load_network(weights)
    if loaded.architecture != name:
        raise UsageError(f"{os.fspath(weights)} is a {loaded.architecture}, not a {name}: ask for that name")
    if num_classes not in (None, len(loaded.labels)):
        raise UsageError(
            f"{os.fspath(weights)} predicts {len(loaded.labels)} expressions, not {num_classes}: leave num_classes "
            "out, and replace the classifier afterwards"
        )
    if options and _shapes(create_network(name, num_classes=len(loaded.labels), **options)) != _shapes(loaded.network):
        raise UsageError(f"{os.fspath(weights)} was made with other options: leave them out")
    return loaded.network


def _described(network: nn.Module, card: Card) -> LoadedNetwork:
    return LoadedNetwork(network.eval(), card.architecture["name"], options_of(card), card.labels, card)


def _from_run(folder: Path, checkpoint: str) -> LoadedNetwork:
    from ddamfn.train.run_folder import read_run

    finished = read_run(folder, checkpoint)  # type: ignore[arg-type]  # read_run checks the name itself
    model = finished.run.model
    return LoadedNetwork(finished.network, model.name, model.options, finished.classes, None)


def _from_safetensors(path: Path) -> LoadedNetwork:
    if path.name == HUB_WEIGHTS and (path.parent / HUB_CONFIG).is_file():
        return _from_hub_folder(path.parent)
    if path.parent.name == "checkpoints" and (path.parent.parent / "config.json").is_file():
        return _from_run(path.parent.parent, path.stem)
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise WeightsError(
            f"{path} has no card: {card_path.name} must lie beside it; or name network and num_classes in create_model"
        )
    card = read_card(card_path)
    network = network_of(card)
    verify(card, path)
    _fill(network, _read_safetensors(path), path)
    return _described(network, card)


def _from_hub_folder(folder: Path) -> LoadedNetwork:
    try:
        config = json.loads((folder / HUB_CONFIG).read_text(encoding="utf-8"))
        name, labels, options = config["architecture"], tuple(config["labels"]), config.get("options") or {}
        network = create_network(name, num_classes=len(labels), **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / HUB_CONFIG} does not describe a network of this package: {error!r}") from error
    values = _read_safetensors(folder / HUB_WEIGHTS)
    _fill(network, {key.removeprefix(_PART_OF_HUB): value for key, value in values.items()}, folder / HUB_WEIGHTS)
    cards = sorted(path for path in folder.glob("*.json") if path.name != HUB_CONFIG)
    return LoadedNetwork(network.eval(), name, options, labels, read_card(cards[0]) if cards else None)


def _is_bare(path: Path) -> bool:
    """Whether a file holds a state dict without a description of its network."""
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    described = (path.with_suffix(".json"), path.parent / HUB_CONFIG, path.parent.parent / "config.json")
    return not any(place.is_file() for place in described)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        values: dict[str, Tensor] = safetensors.torch.load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        raise WeightsError(f"{path}: no readable weights ({error})") from error
    return values


def _fill(network: nn.Module, values: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(dict(values))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} does not fit its network: {reason[:300]}") from error


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
