"""DAN's objective: classes come apart, and so do the heads.

Source: Wen et al., "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression Recognition",
Biomimetics 2023, 8(2), 199, sections 3.1 and 3.3.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, extra_of, require_at_least_0, weights_of

_SMALLEST_VARIANCE = 1e-6


def affinity_loss(embedding: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of (B, D) to the own class's center (K, D), in units of how far the centers lie apart."""
    within = (embedding - centers[labels]).square().sum(dim=1).mean()
    return within / centers.var(dim=0).sum()


def partition_loss(heads: Tensor) -> Tensor:
    """log(1 + A / variance over the heads (B, A, D), averaged over batch and channels); 0 for one head."""
    count = heads.shape[1]
    if count < 2:
        return heads.new_zeros(())
    variance = heads.var(dim=1).mean()
    return torch.log1p(count / (variance + _SMALLEST_VARIANCE))


@dataclass(frozen=True, kw_only=True)
class DANObjective:
    """Cross-entropy, affinity and partition losses. An image with several labels belongs to the largest."""

    name: ClassVar[str] = "dan"
    takes_mixtures: ClassVar[bool] = False
    affinity_weight: float = 1.0
    partition_weight: float = 1.0
    embedding_dim: int = 512
    """D of the network's embedding."""

    def __post_init__(self) -> None:
        require_at_least_0(affinity_weight=self.affinity_weight, partition_weight=self.partition_weight)

    def create_criterion(self, split: TrainingSplit) -> "DANCriterion":
        """Begin a run, with centers drawn from torch's global generator."""
        return DANCriterion(self, len(split.classes))


class DANCriterion(Criterion):
    """DAN's objective at work; the parameter `centers` (K, D) is learned with the network, at its learning rate."""

    def __init__(self, config: DANObjective, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.centers = nn.Parameter(torch.randn(num_classes, config.embedding_dim))

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch."""
        name = self.config.name
        classification = soft_cross_entropy(output.logits, targets, weights=weights_of(context))
        affinity = affinity_loss(extra_of(output, "embedding", name), self.centers, targets.argmax(dim=1))
        partition = partition_loss(extra_of(output, "heads", name))
        total = classification + self.config.affinity_weight * affinity + self.config.partition_weight * partition
        parts = {"cross_entropy": classification, "affinity": affinity, "partition": partition}
        return Loss(total, {part: value.detach() for part, value in parts.items()})
