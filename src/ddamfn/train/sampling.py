"""Which pictures an epoch sees, and in what order."""

from collections.abc import Sequence

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


def hold_out(
    split: TensorSplit, share: float, generator: torch.Generator, subjects: Sequence[str | None] | None = None
) -> tuple[TensorSplit, TensorSplit]:
    """Part a split into (train, validation).

    Where the subject of every picture is known, whole subjects are held out: with the same face on both sides a
    network is chosen for knowing who it is. Otherwise the split is parted class by class; a class of two pictures or
    more is in both parts.

    Args:
        split: what to part.
        share: how much to hold out, 0 to 1.
        generator: where chance comes from.
        subjects: who is in each picture, None where unknown.
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
