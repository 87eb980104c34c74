"""DACL's objective: an image's feature comes close to its class's center in the numbers that matter to it.

Source: Farzaneh and Qi, "Facial Expression Recognition in the Wild via Deep Attentive Center Loss", WACV 2021, section
3; the centers' own rule: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016,
Eq. 4.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, extra_of, require_at_least_0, weights_of


@dataclass(frozen=True, kw_only=True)
class DACLObjective:
    """Cross-entropy plus the sparse center loss. An image with several labels belongs to the largest."""

    name: ClassVar[str] = "dacl"
    takes_mixtures: ClassVar[bool] = False
    center_weight: float = 0.01
    """Lambda of the paper."""
    center_rate: float = 0.5
    """How far a center moves to its images in a step (alpha)."""
    embedding_dim: int = 512
    """D of the network's embedding."""

    def __post_init__(self) -> None:
        require_at_least_0(center_weight=self.center_weight, center_rate=self.center_rate)

    def create_criterion(self, split: TrainingSplit) -> "DACLCriterion":
        """Begin a run, with centers drawn from torch's global generator."""
        return DACLCriterion(self, len(split.classes))


class DACLCriterion(Criterion):
    """DACL's objective at work; the buffer `centers` (K, D) float32 moves by a rule of its own, not by gradients."""

    centers: Tensor

    def __init__(self, config: DACLObjective, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("centers", torch.randn(num_classes, config.embedding_dim))

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch."""
        classification = soft_cross_entropy(output.logits, targets, weights=weights_of(context))
        weights, distances = self._weights_and_distances(output, targets)
        center = (weights * distances.square()).sum(dim=1).mean() / 2
        total = classification + self.config.center_weight * center
        return Loss(total, {"cross_entropy": classification.detach(), "center": center.detach()})

    @torch.no_grad()
    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Move each center to its images of the batch, less far the fewer they are."""
        weights, distances = self._weights_and_distances(output, targets)
        # A product in place of a scattered sum, which on a GPU would not give equal bits twice.
        members = F.one_hot(targets.argmax(dim=1), len(self.centers)).to(distances.dtype)
        moves = members.T @ (weights * distances) / (1 + members.sum(dim=0)).unsqueeze(1)
        self.centers += self.config.center_rate * moves

    def _weights_and_distances(self, output: ModelOutput, targets: Tensor) -> tuple[Tensor, Tensor]:
        weights = extra_of(output, "channel_weights", self.config.name)
        embedding = extra_of(output, "embedding", self.config.name)
        return weights, embedding - self.centers[targets.argmax(dim=1)]
