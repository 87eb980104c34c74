"""Distillation: a network learns other networks' outputs beside, or in place of, the labels.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2; Romero et al., "FitNets: Hints
for Thin Deep Nets", ICLR 2015, for the maps of features; Furlanello et al., "Born-Again Neural Networks", ICML 2018,
for self-distillation.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.protocol import Context, Criterion, Loss


@dataclass(frozen=True, kw_only=True)
class _Distillation:
    """The settings that all kinds of distillation share."""

    temperature: float = 2.0
    """T: logits of both sides are divided by it, so that the small probabilities count too."""
    weight: float = 0.5
    """Share of the distillation loss in the whole; with 1 the labels count for nothing."""
    flip_average: bool = False
    """Average the teachers' probabilities for each image and its mirror image: the student learns what flip averaging
    at prediction would give, and predicts at the cost of one pass."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight is a share from 0 to 1, not {self.weight}")


@dataclass(frozen=True, kw_only=True)
class _TeacherDistillation(_Distillation):
    """Distillation from finished networks."""

    teachers: tuple[str, ...]
    """Folders of finished runs, exported `.onnx` files, or names of bundled weights; the probabilities of several are
    averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teachers:
            raise ConfigError("teachers must name at least one run's folder or exported file")
        if len(set(self.teachers)) < len(self.teachers):
            raise ConfigError(f"duplicate teacher in {list(self.teachers)}")


@dataclass(frozen=True, kw_only=True)
class LiveDistillation(_TeacherDistillation):
    """Teachers run in every step, on the very images that the student sees.

    Over hundreds of epochs this teaches best (Beyer et al., "Knowledge distillation: A good teacher is patient and
    consistent", CVPR 2022).
    """

    name: ClassVar[str] = "live"
    teacher_sees_unerased: bool = False
    """Show teachers each image as it is before random erasing: the student learns to predict as if nothing of the face
    were covered."""
    features: float = 0.0
    """How much the maps of features must agree as well; for one teacher whose map has the student's shape."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.features >= 0:
            raise ConfigError(f"features must be 0 or more, not {self.features}")
        if self.features and len(self.teachers) > 1:
            raise ConfigError("features are learned from one teacher alone; name one, or set features to 0")


@dataclass(frozen=True, kw_only=True)
class CachedDistillation(_TeacherDistillation):
    """Teachers run once on every training image, before all augmentation, and their outputs are cached.

    Epochs after the first cost nothing of theirs. The student learns to predict for a changed or partly erased image
    what they predict for the whole one.
    """

    name: ClassVar[str] = "cached"


@dataclass(frozen=True, kw_only=True)
class SelfDistillation(_Distillation):
    """Every phase but the first learns from the network that the phase before kept; the first has the labels alone.

    The outputs for every training image, before all augmentation, are cached when a phase begins.
    """

    name: ClassVar[str] = "self"


Distillation = LiveDistillation | CachedDistillation | SelfDistillation


def distillation_loss(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student), mean over (B, K)'s batch in nats; its gradient keeps its size at any temperature."""
    student = F.log_softmax(logits.float() / temperature, dim=1)
    return F.kl_div(student, probabilities, reduction="batchmean") * temperature**2


def feature_distance(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean over batch and positions of one minus the cosine of two maps, which does not depend on their scale."""
    if features.shape != wanted.shape:
        raise ConfigError(
            f"the teacher's map of features is {tuple(wanted.shape[1:])}, the student's {tuple(features.shape[1:])}; "
            "choose another teacher, or --set distillation.features=0"
        )
    return 1 - F.cosine_similarity(features.float(), wanted.float(), dim=1).mean()


class DistillationLoss(Criterion):
    """Another criterion L and the soft targets: (1 - w) L + w T^2 KL + f (1 - cos); L alone where there are none."""

    def __init__(self, inner: Criterion, config: Distillation) -> None:
        super().__init__()
        self.inner, self.config = inner, config
        self.features_weight = config.features if isinstance(config, LiveDistillation) else 0.0
        self.mirrored = inner.mirrored

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch, whose context holds its soft targets."""
        hard = self.inner(output, targets, context)
        soft_targets = None if context is None else context.soft_targets
        if soft_targets is None:
            return hard
        with torch.autocast(output.logits.device.type, enabled=False):
            soft = distillation_loss(output.logits, soft_targets.probabilities, self.config.temperature)
            total = (1 - self.config.weight) * hard.total + self.config.weight * soft
            parts = {**hard.parts, "distillation": soft.detach()}
            if self.features_weight and soft_targets.features is not None:
                distance = feature_distance(output.features, soft_targets.features)
                total, parts["features"] = total + self.features_weight * distance, distance.detach()
        return Loss(total, parts)

    def num_correct(self, output: ModelOutput, targets: Tensor) -> Tensor | None:
        """Count by the labels, as the other criterion does."""
        return self.inner.num_correct(output, targets)

    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Update the other criterion's state."""
        self.inner.after_step(output, targets, context)
