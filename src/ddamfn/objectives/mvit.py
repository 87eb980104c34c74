"""MViT's objective: cross-entropy, and labels that change when the network contradicts them.

Source: Li et al., "MVT: Mask Vision Transformer for Facial Expression Recognition in the Wild", arXiv 2106.04520, whose
abstract names a dynamic relabeling module. When it begins, and its threshold, are not published: ours are SCN's, for
the whole batch because there is no weight that would part it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, require_at_least_0, weights_of
from ddamfn.objectives.scn import LabelBook


@dataclass(frozen=True, kw_only=True)
class MViTObjective:
    """Cross-entropy and relabeling."""

    name: ClassVar[str] = "mvit"
    takes_mixtures: ClassVar[bool] = False
    relabel_epoch: int = 10
    """First epoch, counted from 0, that changes labels."""
    relabel_margin: float = 0.2
    """By how much the likeliest class must exceed the label's probability."""

    def __post_init__(self) -> None:
        require_at_least_0(relabel_epoch=self.relabel_epoch, relabel_margin=self.relabel_margin)

    def create_criterion(self, split: TrainingSplit) -> "MViTCriterion":
        """Begin a run."""
        return MViTCriterion(self, split.num_images)


class MViTCriterion(Criterion):
    """MViT's objective at work; `book` holds the labels that it changed."""

    def __init__(self, config: MViTObjective, num_images: int) -> None:
        super().__init__()
        self.config = config
        self.book = LabelBook(num_images)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch against its current labels."""
        current = targets if context is None else self.book(targets, context.rows)
        loss = soft_cross_entropy(output.logits, current, weights=weights_of(context))
        return Loss(loss, {"cross_entropy": loss.detach(), "relabeled": self.book.share()})

    @torch.no_grad()
    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Change labels that the network contradicts, once it has learned for some epochs."""
        if context.epoch >= self.config.relabel_epoch:
            self.book.relabel(output.logits, targets, context.rows, margin=self.config.relabel_margin)
