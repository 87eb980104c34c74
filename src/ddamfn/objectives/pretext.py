"""Pretext tasks: training without labels.

They train the trunk: everything that a network's map of features depends on. A task's own head is a part of its
criterion, so any network of the registry can be trained, and the head is dropped with the criterion.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.protocol import Criterion, TrainingSplit


class PretextCriterion(Criterion):
    """The loss of a pretext task, and a batch's views: the output has a row per view, the targets one per image."""

    def views(self, images: Tensor, augment: Callable[[Tensor], Tensor]) -> Tensor:
        """Make views (V B, C, S, S), first those of all images, then the second ones; `augment` draws anew per call."""
        return augment(images)

    def num_correct(self, output: ModelOutput, targets: Tensor) -> Tensor | None:
        """None: most tasks have no correct class."""
        return None


@dataclass(frozen=True, kw_only=True)
class PretextObjective(ABC):
    """What all pretext tasks have in common."""

    name: ClassVar[str]
    takes_mixtures: ClassVar[bool] = False
    takes_identities: ClassVar[bool] = False
    """Whether the targets are the faces' embeddings (`ddamfn.preparation.identity`); other tasks need none."""
    channels: int = 512
    """C of the network's map of features."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ConfigError(f"channels must be at least 1, not {self.channels}")

    @abstractmethod
    def create_criterion(self, split: TrainingSplit) -> PretextCriterion:
        """Begin a run, with a head drawn from torch's global generator."""


@dataclass(frozen=True, kw_only=True)
class TwoViewObjective(PretextObjective):
    """What the tasks that compare two random views of an image have in common."""

    width: int = 2048
    """Numbers in each layer of the projector, and in an image's projection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, not {self.width}")


class TwoViews(PretextCriterion):
    """A criterion whose network sees every image twice, changed at random in two ways."""

    def views(self, images: Tensor, augment: Callable[[Tensor], Tensor]) -> Tensor:
        """Change the images twice."""
        return torch.cat([augment(images), augment(images)])


def pooled(output: ModelOutput, channels: int) -> Tensor:
    """Return the mean of a network's map of features over its positions, (B, C) float32."""
    if output.features.shape[1] != channels:
        raise ConfigError(
            f"the network's map has {output.features.shape[1]} channels, not {channels}; "
            f"--set objective.channels={output.features.shape[1]}"
        )
    return output.features.float().mean(dim=(2, 3))


def perceptron(*widths: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths; batch normalization and ReLU between them.

    `last_norm` normalizes the last output too, without learned scale and shift.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)
