"""Rotation: by which quarter turns was the image turned?

Source: Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models import ModelOutput
from ddamfn.objectives.pretext import PretextCriterion, PretextObjective, pooled
from ddamfn.objectives.protocol import Context, Loss, TrainingSplit

TURNS = 4
"""0, 90, 180 and 270 degrees. Fewer or more turns were worse (table 2); others need a rotation that leaves traces."""


@dataclass(frozen=True, kw_only=True)
class RotationObjective(PretextObjective):
    """Cross-entropy over four turns. Aligned faces make it an easy task, so it may teach little."""

    name: ClassVar[str] = "rotation"

    def create_criterion(self, split: TrainingSplit) -> "RotationCriterion":
        """Begin a run."""
        return RotationCriterion(self)


class RotationCriterion(PretextCriterion):
    """The rotation task at work; a linear classifier is learned with the network."""

    def __init__(self, config: RotationObjective) -> None:
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(config.channels, TURNS)

    def views(self, images: Tensor, augment: Callable[[Tensor], Tensor]) -> Tensor:
        """Turn every image in all four ways, which the paper found better than one way at random."""
        changed = augment(images)
        return torch.cat([changed.rot90(turn, (2, 3)) for turn in range(TURNS)])

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch's 4 B views."""
        loss = F.cross_entropy(self._logits(output), _turns(output))
        return Loss(loss, {"cross_entropy": loss.detach()})

    @torch.no_grad()
    def num_correct(self, output: ModelOutput, targets: Tensor) -> Tensor:
        """Count correct turns, a quarter for each of an image's four views; chance is B / 4."""
        return (self._logits(output).argmax(dim=1) == _turns(output)).float().sum() / TURNS

    def _logits(self, output: ModelOutput) -> Tensor:
        logits: Tensor = self.classifier(pooled(output, self.config.channels))
        return logits


def _turns(output: ModelOutput) -> Tensor:
    views = len(output.features)
    return torch.arange(TURNS, device=output.features.device).repeat_interleave(views // TURNS)
