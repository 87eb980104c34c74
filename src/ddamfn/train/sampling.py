"""Which pictures an epoch sees, and in what order."""

import torch
from torch import Tensor

from ddamfn.train.tensorset import TensorSplit


def epoch_batches(split: TensorSplit, batch_size: int, *, balanced: bool, generator: torch.Generator) -> list[Tensor]:
    """Row numbers of every batch of one epoch, each (B,) int64 on the CPU.

    Args:
        split: the training split.
        batch_size: B; a last batch of one picture is dropped, since batch normalisation cannot take it.
        balanced: draw N pictures with replacement, every class equally often on average (weights 1 / class count).
        generator: where chance comes from.
    """
    n = len(split)
    if balanced:
        labels = split.targets.argmax(dim=1).cpu()
        weights = 1.0 / torch.bincount(labels, minlength=len(split.classes)).clamp_min(1).double()
        order = torch.multinomial(weights[labels], n, replacement=True, generator=generator)
    else:
        order = torch.randperm(n, generator=generator)
    return [batch for batch in order.split(batch_size) if len(batch) > 1]


def hold_out(split: TensorSplit, share: float, generator: torch.Generator) -> tuple[TensorSplit, TensorSplit]:
    """Part a split into (train, validation), class by class, at least one picture of each class in both if it has two."""
    labels = split.targets.argmax(dim=1).cpu()
    chosen = []
    for k in range(len(split.classes)):
        rows = torch.nonzero(labels == k).flatten()
        count = min(len(rows) - 1, max(1, round(len(rows) * share))) if len(rows) > 1 else 0
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    held = torch.cat(chosen).sort().values
    mask = torch.ones(len(split), dtype=torch.bool)
    mask[held] = False
    return split.subset(torch.nonzero(mask).flatten()), split.subset(held)
