"""Distillation: a network learns other networks' answers beside, or in place of, the labels.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2; Romero et al., "FitNets: Hints
for Thin Deep Nets", ICLR 2015, for the maps of features; Furlanello et al., "Born-Again Neural Networks", ICML 2018,
for teachers like the student.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.protocol import Context, Criterion, Loss


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Who teaches, and how much it counts.

    Raises:
        ConfigError: if a number is out of range or nobody teaches.
    """

    teachers: tuple[str, ...] = ()
    """Folders of finished runs, exported `.onnx` files, or names of bundled weights; the probabilities of several are
    averaged."""
    born_again: bool = False
    """In place of teachers: every phase but the first learns from the network that the phase before kept, asked once of
    every training image as it is (see `once`). The first phase learns from the labels alone."""
    temperature: float = 2.0
    """T: logits of both sides are divided by it, so that the small probabilities count too."""
    weight: float = 0.5
    """Share of the teachers' part in the loss; with 1 the labels count for nothing."""
    mirrored: bool = False
    """Whether teachers are also asked of each image's mirror image, and the two answers averaged: the student learns
    what averaging at prediction would give, and predicts at the cost of one pass."""
    uncovered: bool = False
    """Whether teachers see an image as it is before random erasing: the student learns to answer as if nothing of the
    face were covered."""
    once: bool = False
    """Whether teachers are asked once of every training image as it is, before all augmentation, and their answers
    kept: epochs after the first cost nothing of theirs. The student learns to answer a changed or partly erased image
    as they answer the whole one. Over hundreds of epochs teachers that see the student's very images teach better
    (Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022)."""
    features: float = 0.0
    """How much the maps of features must agree as well; for one teacher whose map has the student's shape."""

    def __post_init__(self) -> None:
        if not self.teachers and not self.born_again:
            raise ConfigError("teachers must name at least one run's folder or exported file, or set born_again")
        if self.teachers and self.born_again:
            raise ConfigError("a network that is born again is its own teacher; leave out teachers, or born_again")
        if len(set(self.teachers)) < len(self.teachers):
            raise ConfigError(f"a teacher stands twice in {list(self.teachers)}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight is a share from 0 to 1, not {self.weight}")
        if not self.features >= 0:
            raise ConfigError(f"features must be 0 or more, not {self.features}")
        if self.features and len(self.teachers) > 1:
            raise ConfigError("features are learned from one teacher alone; name one, or set features to 0")
        if self.once and self.born_again:
            raise ConfigError("a network that is born again is asked once in any case; leave out once")
        if self.kept_by and self.uncovered:
            raise ConfigError(f"{self.kept_by} shows teachers every image whole; leave out uncovered")
        if self.kept_by and self.features:
            raise ConfigError(
                f"maps of features are not kept for all images; set features to 0, or leave out {self.kept_by}"
            )

    @property
    def kept_by(self) -> str | None:
        """The setting by which answers to the training images are kept; None if teachers are asked at every step."""
        return "once" if self.once else "born_again" if self.born_again else None


def distillation_loss(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) in nats, mean over the batch; its gradient keeps its size at any temperature.

    Args:
        logits: (B, K) float, of the student.
        probabilities: (B, K) float32, of the teacher at the temperature.
        temperature: T.
    """
    student = F.log_softmax(logits.float() / temperature, dim=1)
    return F.kl_div(student, probabilities, reduction="batchmean") * temperature**2


def feature_distance(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean over batch and positions of one minus the cosine of two maps, which does not depend on their scale.

    Raises:
        ConfigError: if their shapes differ.
    """
    if features.shape != wanted.shape:
        raise ConfigError(
            f"the teacher's map of features is {tuple(wanted.shape[1:])}, the student's {tuple(features.shape[1:])}; "
            "choose another teacher, or --set distillation.features=0"
        )
    return 1 - F.cosine_similarity(features.float(), wanted.float(), dim=1).mean()


class TaughtCriterion(Criterion):
    """Another criterion and the teachers' answers: (1 - w) L + w T^2 KL + f (1 - cos); without a lesson L alone."""

    def __init__(self, inner: Criterion, config: Distillation) -> None:
        super().__init__()
        self.inner, self.config = inner, config
        self.mirrored = inner.mirrored

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Judge a batch; its context holds the teachers' lesson, if there is one yet."""
        own = self.inner(output, targets, context)
        lesson = None if context is None else context.lesson
        if lesson is None:
            assert self.config.born_again  # the loop asks all other teachers before every step
            return own
        with torch.autocast(output.logits.device.type, enabled=False):
            taught = distillation_loss(output.logits, lesson.probabilities, self.config.temperature)
            total = (1 - self.config.weight) * own.total + self.config.weight * taught
            parts = {**own.parts, "distillation": taught.detach()}
            if self.config.features:
                assert lesson.features is not None  # kept answers have none, and the settings refuse both together
                distance = feature_distance(output.features, lesson.features)
                total, parts["features"] = total + self.config.features * distance, distance.detach()
        return Loss(total, parts)

    def right(self, output: ModelOutput, targets: Tensor) -> Tensor | None:
        """Count by the labels, as the other criterion does."""
        return self.inner.right(output, targets)

    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Let the other criterion learn."""
        self.inner.after_step(output, targets, context)
