"""PSR's objective: labels smoothed towards what people mistake an expression for.

Source: Vo et al., "Pyramid With Super Resolution for In-the-Wild Facial Expression Recognition", IEEE Access 2020,
section III-D.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import prior_of, smooth_by_prior, soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, extra_of, weights_of


@dataclass(frozen=True, kw_only=True)
class PSRObjective:
    """Mean over the branches of the cross-entropy against labels smoothed by the prior distribution."""

    name: ClassVar[str] = "psr"
    takes_mixtures: ClassVar[bool] = True
    label_share: float = 0.8
    """What the label keeps; the rest follows the prior (alpha)."""

    def __post_init__(self) -> None:
        if not 0 < self.label_share <= 1:
            raise ConfigError(f"label_share must be above 0 and at most 1, not {self.label_share}")

    def create_criterion(self, split: TrainingSplit) -> "PSRCriterion":
        """Begin a run."""
        return PSRCriterion(self, split.classes)


class PSRCriterion(Criterion):
    """PSR's objective at work; the buffer `prior` (K, K) float32 is the published table for the run's own classes.

    Kept because the authors have it so: with fewer than eight classes a row sums to less than 1.
    """

    prior: Tensor

    def __init__(self, config: PSRObjective, classes: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("prior", prior_of(classes))

    def smooth(self, targets: Tensor) -> Tensor:
        """Targets (B, K) smoothed by the prior."""
        return smooth_by_prior(targets, self.prior, 1 - self.config.label_share)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch; the recorded cross-entropy is of mean logits and plain labels."""
        branches = extra_of(output, "branch_logits", self.config.name)
        smoothed = self.smooth(targets)
        losses = [
            soft_cross_entropy(logits, smoothed, weights=weights_of(context)) for logits in branches.unbind(dim=1)
        ]
        total = torch.stack(losses).mean()
        plain = soft_cross_entropy(output.logits.detach(), targets)
        return Loss(total, {"cross_entropy": plain, "smoothed": total.detach()})
