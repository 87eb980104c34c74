"""Where a network begins: the weights of another run in place of random ones."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from torch import nn

from ddamfn.errors import ConfigError
from ddamfn.train.checkpoint import load_network

log = logging.getLogger(__name__)

_IN_A_RUN = ("trunk", "best", "last")
"""Which of a run's networks is taken, the first that is there; only a pretext task leaves a trunk."""


def weights_file(place: str) -> Path:
    """The safetensors file that a run's folder, or a path to a file, stands for.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(place)
    if path.is_file():
        return path
    for name in _IN_A_RUN:
        inside = path / "checkpoints" / f"{name}.safetensors"
        if inside.is_file():
            return inside
    raise ConfigError(f"{place!r}: no run with kept weights and no safetensors file; name one of the two")


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin_from(network: nn.Module, place: str) -> dict[str, Any]:
    """Give a network all tensors of a file that have the name and the shape of one of its own.

    Args:
        network: what to begin; tensors without a counterpart stay as they are.
        place: see `weights_file`.

    Returns:
        For the record: `file`, `sha256`, `taken` (how many of the network's tensors come from it) and `tensors` (how
        many it has).

    Raises:
        ConfigError: if there is no file or nothing matches.
        TrainingError: if the file is damaged.
    """
    path = weights_file(place)
    own, weights = network.state_dict(), load_network(path)
    matching = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    if not matching:
        raise ConfigError(f"{path}: none of its {len(weights)} tensors has name and shape of the network's {len(own)}")
    network.load_state_dict(matching, strict=False)
    log.info("%d of the network's %d tensors begin as in %s", len(matching), len(own), path)
    return {"file": str(path), "sha256": sha256_of(path), "taken": len(matching), "tensors": len(own)}
