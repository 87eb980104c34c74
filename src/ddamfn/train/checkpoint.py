"""Checkpoints that survive a kill at any moment: written beside, flushed, then renamed over the old one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddamfn.errors import TrainingError


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write all that a run needs to go on (tensors, numbers, strings, lists, dictionaries).

    Raises:
        TrainingError: if the disk refuses; the checkpoint before is then still whole.
    """
    _replace(path, lambda draft: torch.save(dict(state), draft))


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; never runs pickled code.

    Raises:
        TrainingError: if the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path}: cannot be read ({error}); delete it to begin the run anew") from error
    return state


def save_network(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a network's weights as safetensors.

    Raises:
        TrainingError: if the disk refuses; the file before is then still whole.
    """
    # Cloned: safetensors refuses tensors that share memory and takes row-major order alone.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    _replace(path, lambda draft: save_file(plain, draft))


def load_network(path: Path) -> dict[str, Tensor]:
    """Read what `save_network` wrote.

    Raises:
        TrainingError: if the file is missing or damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        raise TrainingError(f"{path}: no readable weights ({error})") from error


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except Exception as error:  # torch and safetensors wrap a full disk in errors of their own
        draft.unlink(missing_ok=True)
        kept = "the one before is whole" if path.exists() else "there was none before"
        raise TrainingError(f"{path}: cannot be written ({error}); {kept}; make room and resume") from error
