"""A split as one uint8 tensor on the device, and how rows are drawn from it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddamfn.errors import DataError
from ddamfn.faces import Preprocessing, preprocess
from ddamfn.objectives import TrainingSplit
from ddamfn.preparation import PreparedSplit

_CHUNK = 512


@dataclass(frozen=True)
class TensorSplit:
    """Images and targets of one split."""

    images: Tensor  # (N, C, S, S) uint8, C = 1 for gray and 3 for RGB
    targets: Tensor  # (N, K) float32, rows sum to 1; or a pretext task's
    keys: tuple[str, ...]
    classes: tuple[str, ...]  # canonical names of the K columns
    origin: str = "the training images"  # for messages
    weights: Tensor | None = None  # (N,) float32 in the loss; None where all count alike

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: Tensor) -> "TensorSplit":
        """Only these rows, (M,) int64."""
        chosen = rows.to(self.images.device)
        keys = tuple(self.keys[i] for i in rows.tolist())
        weights = None if self.weights is None else self.weights[chosen]
        return replace(self, images=self.images[chosen], targets=self.targets[chosen], keys=keys, weights=weights)

    def weighted(self, weights: Tensor) -> "TensorSplit":
        """The same split with these weights, (N,) float above 0, scaled to a mean of 1."""
        return replace(self, weights=(weights / weights.mean()).float().to(self.images.device))

    def describe(self) -> TrainingSplit:
        """What an objective is told of the split; the images' weights count in the classes' shares."""
        targets = self.targets if self.weights is None else self.targets * self.weights.unsqueeze(1)
        shares = targets.double().mean(dim=0)
        return TrainingSplit(
            classes=self.classes, num_images=len(self), class_shares=tuple((shares / shares.sum()).tolist())
        )

    def resized(self, side_px: int) -> "TensorSplit":
        """The same split with smaller images, antialiased; itself if they have that side."""
        if self.images.shape[-1] == side_px or not len(self):
            return self
        parts = [
            F.interpolate(chunk.float(), size=(side_px, side_px), mode="bilinear", antialias=True, align_corners=False)
            .round_()
            .clamp_(0, 255)
            .byte()
            for chunk in self.images.split(_CHUNK)
        ]
        return replace(self, images=torch.cat(parts))

    def fingerprint(self) -> str:
        """Hash of the images' names and targets: two splits with the same one are the same."""
        digest = hashlib.sha256("\n".join((*self.classes, *self.keys)).encode(errors="surrogateescape"))
        digest.update(self.targets.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def require_every_class(self) -> None:
        """Raise DataError if a class has no image."""
        counts = torch.bincount(self.targets.argmax(dim=1), minlength=len(self.classes))
        missing = [name for name, n in zip(self.classes, counts.tolist(), strict=True) if n == 0]
        if missing:
            others = ",".join(f'"{name}"' for name in self.classes if name not in missing)
            raise DataError(
                f"{self.origin}: no image of {', '.join(missing)}; add some, or train without it: --set "
                f"data.classes='[{others}]'"
            )


def to_tensors(
    split: PreparedSplit,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None,
    device: torch.device,
    origin: str,
) -> TensorSplit:
    """Read a prepared split's crops into memory, preprocessed as prediction does, bit for bit.

    Images whose targets lie mostly outside `classes` are left out, and targets of the others are scaled to a sum of 1;
    None keeps all, with targets (N, 0).
    """
    columns = [split.classes.index(name) for name in classes or ()]
    targets = np.asarray(split.targets)[:, columns]
    kept = np.arange(len(split))
    if classes is not None:
        kept = np.flatnonzero(targets.sum(axis=1) > 0.5)
        targets = targets[kept] / targets[kept].sum(axis=1, keepdims=True)
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(kept), _CHUNK):
        crops = preprocess(np.asarray(split.crops[kept[start : start + _CHUNK]]), preprocessing)
        channels = crops[..., :1] if preprocessing.color == "gray" else crops
        parts.append(channels.transpose(0, 3, 1, 2))
    side = split.crops.shape[1]
    images = np.concatenate(parts) if parts else np.zeros((0, 3, side, side), np.uint8)
    return TensorSplit(
        torch.from_numpy(np.ascontiguousarray(images)).to(device),
        torch.from_numpy(targets.astype(np.float32)).to(device),
        tuple(split.keys[i] for i in kept.tolist()),
        classes or (),
        origin,
    )


def epoch_batches(split: TensorSplit, batch_size: int, *, balanced: bool, generator: torch.Generator) -> list[Tensor]:
    """Return row numbers of every batch of one epoch, each (B,) int64 on the CPU; `balanced` draws with replacement.

    A last batch of one image is dropped, since batch normalization cannot take it.
    """
    n = len(split)
    if balanced:
        labels = split.targets.argmax(dim=1).cpu()
        weights = 1.0 / torch.bincount(labels, minlength=len(split.classes)).clamp_min(1).double()
        order = torch.multinomial(weights[labels], n, replacement=True, generator=generator)
    else:
        order = torch.randperm(n, generator=generator)
    return [batch for batch in order.split(batch_size) if len(batch) > 1]


def hold_out(
    split: TensorSplit, share: float, generator: torch.Generator, subjects: Sequence[str | None] | None = None
) -> tuple[TensorSplit, TensorSplit]:
    """Part a split into (train, validation), which has a `share` from 0 to 1 of it, class by class.

    A class of two images or more is in both parts. Where the subject of every image is known, whole
    subjects are held out: with the same face on both sides a network is chosen for knowing who it is.
    """
    if subjects and all(subjects) and len(set(subjects)) > 1:
        held = _whole_subjects([str(subject) for subject in subjects], share, generator)
    else:
        held = _of_every_class(split, share, generator)
    mask = torch.ones(len(split), dtype=torch.bool)
    mask[held] = False
    return split.subset(torch.nonzero(mask).flatten()), split.subset(held.sort().values)


def _whole_subjects(subjects: list[str], share: float, generator: torch.Generator) -> Tensor:
    people = sorted(set(subjects))
    order = torch.randperm(len(people), generator=generator).tolist()
    chosen = {people[i] for i in order[: min(len(people) - 1, max(1, round(len(people) * share)))]}
    return torch.tensor([row for row, subject in enumerate(subjects) if subject in chosen])


def _of_every_class(split: TensorSplit, share: float, generator: torch.Generator) -> Tensor:
    labels = split.targets.argmax(dim=1).cpu()
    chosen = []
    for k in range(len(split.classes)):
        rows = torch.nonzero(labels == k).flatten()
        count = min(len(rows) - 1, max(1, round(len(rows) * share))) if len(rows) > 1 else 0
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen)
