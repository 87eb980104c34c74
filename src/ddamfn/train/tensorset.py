"""A split as one uint8 tensor on the device: batches are slices, so no worker process is needed."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddamfn.errors import TrainingError
from ddamfn.faces import Appearance, apply_appearance
from ddamfn.preparation import PreparedSplit

_CHUNK = 512


@dataclass(frozen=True)
class TensorSplit:
    """Pictures and targets of one split.

    Attributes:
        images: (N, C, S, S) uint8, C = 1 for grey and 3 for RGB.
        targets: (N, K) float32, rows of which sum to 1.
        keys: the pictures' names.
        classes: canonical names of the K columns.
    """

    images: Tensor
    targets: Tensor
    keys: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: Tensor) -> "TensorSplit":
        """Only these rows, (M,) int64."""
        chosen = rows.to(self.images.device)
        keys = tuple(self.keys[i] for i in rows.tolist())
        return TensorSplit(self.images[chosen], self.targets[chosen], keys, self.classes)

    def resized(self, side_px: int) -> "TensorSplit":
        """The same split with smaller pictures, antialiased; itself if they have that side."""
        if self.images.shape[-1] == side_px:
            return self
        parts = [
            F.interpolate(chunk.float(), size=(side_px, side_px), mode="bilinear", antialias=True, align_corners=False)
            .round_()
            .clamp_(0, 255)
            .byte()
            for chunk in self.images.split(_CHUNK)
        ]
        return TensorSplit(torch.cat(parts), self.targets, self.keys, self.classes)

    def require_every_class(self, origin: str) -> None:
        """Raise TrainingError if a class has no picture: no network can learn it."""
        counts = torch.bincount(self.targets.argmax(dim=1), minlength=len(self.classes))
        missing = [name for name, n in zip(self.classes, counts.tolist(), strict=True) if n == 0]
        if missing:
            raise TrainingError(
                f"{origin}: no training picture of {', '.join(missing)}; add some, or train on the other classes "
                "with --set data.classes=[...]"
            )


def to_tensors(
    split: PreparedSplit, appearance: Appearance, classes: tuple[str, ...], device: torch.device
) -> TensorSplit:
    """Read a prepared split's crops into memory, in the appearance that prediction gives them, bit for bit.

    Pictures of other classes than `classes` are left out; targets are rearranged by name.
    """
    columns = [split.classes.index(name) for name in classes]
    targets = np.asarray(split.targets)[:, columns]
    kept = np.flatnonzero(targets.sum(axis=1) > 0.5)
    targets = targets[kept] / targets[kept].sum(axis=1, keepdims=True)
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(kept), _CHUNK):
        crops = apply_appearance(np.asarray(split.crops[kept[start : start + _CHUNK]]), appearance)
        channels = crops[..., :1] if appearance.colour == "grey" else crops
        parts.append(channels.transpose(0, 3, 1, 2))
    side = split.crops.shape[1]
    images = np.concatenate(parts) if parts else np.zeros((0, 3, side, side), np.uint8)
    return TensorSplit(
        torch.from_numpy(np.ascontiguousarray(images)).to(device),
        torch.from_numpy(targets.astype(np.float32)).to(device),
        tuple(split.keys[i] for i in kept.tolist()),
        classes,
    )
