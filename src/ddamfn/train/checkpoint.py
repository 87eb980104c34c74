"""Checkpoints that survive a kill at any moment: written beside, flushed, then renamed over the old one."""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ddamfn.errors import TrainingError


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write all that a run needs to go on (tensors, numbers, strings, lists, dictionaries).

    Raises:
        TrainingError: if the disk refuses; the checkpoint before is then still whole.
    """
    # Made in memory, since torch turns a full disk into an error about its archive that names neither disk nor file.
    content = io.BytesIO()
    torch.save(dict(state), content)
    replace_file(path, content.getbuffer())


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
    replace_file(path, safetensors.torch.save(plain))


def load_network(path: Path) -> dict[str, Tensor]:
    """Read what `save_network` wrote.

    Raises:
        TrainingError: if the file is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        raise TrainingError(f"{path}: no readable weights ({error})") from error


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step, so that a kill, or a full disk, leaves the old one or the new one.

    Raises:
        TrainingError: if the disk refuses.
    """
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        kept = "the one before is whole" if path.exists() else "there was none before"
        raise TrainingError(
            f"{path}: cannot be written ({error.strerror or error}); {kept}; make room, then resume the run"
        ) from error
