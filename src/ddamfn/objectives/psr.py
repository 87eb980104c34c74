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
from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, require_extra

PRIOR = (
    (0.777334, 0.032610, 0.017447, 0.114091, 0.026224, 0.007145, 0.004379, 0.020772),
    (0.042842, 0.917618, 0.023221, 0.004816, 0.004217, 0.001969, 0.001755, 0.003563),
    (0.058354, 0.035775, 0.787254, 0.010370, 0.014319, 0.003015, 0.088513, 0.002400),
    (0.170124, 0.013292, 0.008632, 0.747902, 0.022808, 0.011237, 0.015923, 0.010082),
    (0.074781, 0.025350, 0.060215, 0.031924, 0.740551, 0.034938, 0.023251, 0.008989),
    (0.089590, 0.017445, 0.016911, 0.088629, 0.125152, 0.620813, 0.007788, 0.033671),
    (0.042815, 0.012239, 0.169483, 0.072557, 0.027228, 0.013045, 0.658964, 0.003671),
    (0.147933, 0.022174, 0.009890, 0.042923, 0.033551, 0.059924, 0.005507, 0.678099),
)
"""How FERPlus's annotators voted on average, one row a majority class, both in the order of `EXPRESSIONS`."""


@dataclass(frozen=True, kw_only=True)
class PSRObjective:
    """Mean over the branches of the cross-entropy against labels smoothed by the prior distribution.

    Raises:
        ConfigError: if the share is out of range.
    """

    name: ClassVar[str] = "psr"
    label_share: float = 0.8
    """What the label keeps; the rest follows the prior (alpha)."""

    def __post_init__(self) -> None:
        if not 0 < self.label_share <= 1:
            raise ConfigError(f"label_share must be above 0 and at most 1, not {self.label_share}")

    def create_criterion(self, *, classes: Sequence[str], num_pictures: int) -> "PSRCriterion":
        """Begin a run.

        Raises:
            ConfigError: if the prior does not know a class.
        """
        return PSRCriterion(self, classes)


class PSRCriterion(Criterion):
    """PSR's objective at work; the buffer `prior` (K, K) float32 is the published table for the run's own classes.

    Kept because the authors have it so: with fewer than eight classes a row sums to less than 1.
    """

    prior: Tensor

    def __init__(self, config: PSRObjective, classes: Sequence[str]) -> None:
        super().__init__()
        if unknown := [name for name in classes if name not in EXPRESSIONS]:
            raise ConfigError(
                f"PSR smooths labels by how people confuse {', '.join(EXPRESSIONS)}; it does not know "
                f"{', '.join(unknown)}"
            )
        self.config = config
        order = torch.tensor([EXPRESSIONS.index(name) for name in classes])
        self.register_buffer("prior", torch.tensor(PRIOR)[order][:, order])

    def smooth(self, targets: Tensor) -> Tensor:
        """Targets (B, K) smoothed by the prior."""
        share = self.config.label_share
        return share * targets + (1 - share) * targets.float() @ self.prior

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Judge a batch; the cross-entropy on record is that of the joint answer, against the labels themselves."""
        branches = require_extra(output, "branch_logits", self.config.name)
        smoothed = self.smooth(targets)
        losses = [soft_cross_entropy(logits, smoothed) for logits in branches.unbind(dim=1)]
        total = torch.stack(losses).mean()
        answer = soft_cross_entropy(output.logits.detach(), targets)
        return Loss(total, {"cross_entropy": answer, "smoothed": total.detach()})
