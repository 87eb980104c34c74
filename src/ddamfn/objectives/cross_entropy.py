"""Cross-entropy with soft targets, and label smoothing towards the prior of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput
from ddamfn.objectives.protocol import Criterion, Loss, Stateless, TrainingSplit


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the mean over the batch of -w sum_k t_k log softmax(z)_k, in float32 nats.

    Logits and targets are (B, K), weights w (B,). Weights are not made to sum to B, so that an image counts the same in
    every batch. `label_smoothing` e in [0, 1) makes targets (1 - e) t + e / K.

    Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", ICMI 2016, section 4.4; Szegedy et al., CVPR 2016, section 7, for the smoothing.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if weights is None:
            return F.cross_entropy(logits.float(), targets.float(), label_smoothing=label_smoothing)
        losses = F.cross_entropy(logits.float(), targets.float(), label_smoothing=label_smoothing, reduction="none")
        return (weights * losses).mean()


@dataclass(frozen=True, kw_only=True)
class CrossEntropyObjective:
    """Cross-entropy alone: what TransFER, POSTER and the plain backbones are trained for.

    POSTER's published loss, twice the cross-entropy smoothed by 0.2 plus the plain one, is three times this with a
    smoothing of 0.4 / 3.
    """

    name: ClassVar[str] = "cross_entropy"
    takes_mixtures: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")

    def __call__(self, output: ModelOutput, targets: Tensor, weights: Tensor | None = None) -> Loss:
        """Loss of one batch; targets (B, K) float, rows of which sum to 1; weights (B,) float or None."""
        loss = soft_cross_entropy(output.logits, targets, label_smoothing=self.label_smoothing, weights=weights)
        return Loss(loss, {"cross_entropy": loss.detach()})

    def create_criterion(self, split: TrainingSplit) -> Criterion:
        """Begin a run."""
        return Stateless(self)


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


def prior_of(classes: Sequence[str]) -> Tensor:
    """Return rows and columns of `PRIOR` for these classes, (K, K); with fewer than eight, rows sum to less than 1."""
    if unknown := [name for name in classes if name not in EXPRESSIONS]:
        raise ConfigError(
            f"labels are smoothed by how people confuse {', '.join(EXPRESSIONS)}; the table does not know "
            f"{', '.join(unknown)}"
        )
    order = torch.tensor([EXPRESSIONS.index(name) for name in classes])
    return torch.tensor(PRIOR)[order][:, order]


def smooth_by_prior(targets: Tensor, prior: Tensor, share: float) -> Tensor:
    """Targets (B, K) of which `share` (0 to 1) follows the prior (K, K): (1 - s) t + s t P."""
    return (1 - share) * targets + share * targets.float() @ prior
