"""The interface of every objective: frozen settings (`Objective`), and their loss module in one run (`Criterion`).

A training loop does five things:

1. `criterion = objective.create_criterion(split)`, moved to the device;
2. the optimizer gets the parameters of the network and of the criterion;
3. each forward pass has the loss `criterion(output, targets, context).total`; where `criterion.mirrored` is set, the
   network passes the batch's mirror images as well, and `output.extra` holds "class_maps" and "mirrored_class_maps";
4. once a step, after the update, `criterion.after_step(output, targets, context)` with the output of the step's first
   pass and the targets of the data set;
5. checkpoints hold `criterion.state_dict()`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput


class Loss(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        total: float32 scalar, the one to differentiate.
        parts: name -> float32 scalar, unweighted, for the record; "cross_entropy" is always among them where there are
            labels.
    """

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingSplit:
    """What an objective may know of the images before it sees any.

    Attributes:
        classes: canonical names of the K targets, in their order.
        num_images: N.
        class_shares: mean of the targets over the split, K numbers that sum to 1; None stands for equal shares.
    """

    classes: tuple[str, ...]
    num_images: int
    class_shares: tuple[float, ...] | None = None


class SoftTargets(NamedTuple):
    """Teachers' outputs for a batch, see `ddamfn.objectives.distillation`.

    Attributes:
        probabilities: (B, K) float32, at the distillation's temperature, averaged over the teachers.
        features: (B, C, H, W) float, the (last) teacher's map; None if the outputs were cached.
    """

    probabilities: Tensor
    features: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Context:
    """Which images a batch holds, and where in the run it stands.

    Attributes:
        rows: (B,) int64, the images' numbers in the training split, on the targets' device.
        epoch: counted from 0.
        weights: (B,) float32, how much each image counts in the classification loss, with a mean of 1 over the
            split; None where all count alike.
        soft_targets: the teachers' outputs for these images; None without a teacher.
    """

    rows: Tensor
    epoch: int
    weights: Tensor | None = None
    soft_targets: SoftTargets | None = None


def weights_of(context: Context | None) -> Tensor | None:
    """The images' weights, None where all count alike."""
    return None if context is None else context.weights


class Criterion(nn.Module, ABC):
    """An objective at work in one run.

    Attributes:
        mirrored: whether it compares an image with its mirror image, which costs a second forward pass an image.
    """

    mirrored: bool = False

    @abstractmethod
    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch.

        Args:
            output: of the network, in training mode.
            targets: (B, K) float as the data set gives them, rows of which sum to 1.
            context: which images these are; without it a criterion that changes labels changes none.
        """

    def __call__(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch, see `forward`."""
        loss: Loss = super().__call__(output, targets, context)
        return loss

    def num_correct(self, output: ModelOutput, targets: Tensor) -> Tensor | None:
        """Count the batch's correct predictions, for the record; None if the task has no correct class."""
        return (output.logits.argmax(dim=1) == targets.argmax(dim=1)).sum()

    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Update state that gradients do not update; no-op by default.

        Args:
            output: what the loss was computed from; no gradient goes through here.
            targets: as given to `forward`.
            context: which images these are.
        """


class Objective(Protocol):
    """A recipe's choice: a frozen dataclass of plain numbers, which raises ConfigError for one out of range.

    Attributes:
        name: what recipes call it.
        takes_mixtures: whether its loss is defined for mixtures of images, which have no label or center of their own.
    """

    name: ClassVar[str]
    takes_mixtures: ClassVar[bool]

    def create_criterion(self, split: TrainingSplit) -> Criterion:
        """Begin a run on the images of `split`."""


class Stateless(Criterion):
    """The criterion of an objective without parameters or buffers."""

    def __init__(self, loss: Callable[[ModelOutput, Tensor, Tensor | None], Loss]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch."""
        return self.loss(output, targets, weights_of(context))


def extra_of(output: ModelOutput, name: str, objective: str) -> Tensor:
    """Take what an objective needs from a network's `extra`, as float32.

    Raises:
        ConfigError: if the network does not give it.
    """
    if name not in output.extra:
        given = ", ".join(output.extra) or "nothing"
        raise ConfigError(
            f"the objective {objective} needs {name!r} from the network in training mode, which gives {given}; "
            "choose the network of the same paper"
        )
    return output.extra[name].float()


def require_at_least_0(**numbers: float) -> None:
    """Raise ConfigError naming the first number that is negative."""
    for name, value in numbers.items():
        if not value >= 0:
            raise ConfigError(f"{name} must be 0 or more, not {value}")
