"""Teachers: finished runs whose answers another run learns, see `ddamfn.objectives.distillation`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives import Distillation, Lesson
from ddamfn.train.augment import to_input
from ddamfn.train.config import Data, Run
from ddamfn.train.finished import FinishedRun, read_run
from ddamfn.train.initial import sha256_of, weights_file
from ddamfn.train.step import mixed_precision


@dataclass(frozen=True, eq=False)
class _Teacher:
    network: nn.Module
    forward: Callable[[Tensor], ModelOutput]
    """The network as it is called for full batches: compiled if the student's is."""
    columns: list[int]
    data: Data

    def answer(self, images: Tensor, full: bool) -> ModelOutput:
        network = self.forward if full else self.network
        side_px = self.data.alignment.side_px
        if images.shape[-1] != side_px:
            images = F.interpolate(images, (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)
        with mixed_precision(images.device):
            output: ModelOutput = network(to_input(images, self.data.mean, self.data.std))
        return output


class Teachers:
    """The teachers of one run, in evaluation mode and without gradients.

    They see the very pictures that the student sees, after augmentation and mixing. Pictures of a phase with another
    size are resampled to the size that a teacher was trained at: at other sizes its answers are worth nothing.

    Args:
        config: who teaches.
        run: the student's run.
        classes: the student's classes, in the order of its outputs; a teacher may have the same ones in another order.
        device: where the networks shall live.

    Raises:
        ConfigError: if a teacher knows other classes, or was trained on pictures that look otherwise.
        TrainingError: if a folder holds no finished run.
    """

    def __init__(self, config: Distillation, run: Run, classes: tuple[str, ...], device: torch.device) -> None:
        self.temperature, self.mirrored = config.temperature, config.mirrored
        self._members = [_prepare(read_run(folder), run, classes, device) for folder in config.teachers]

    @torch.no_grad()
    def __call__(self, images: Tensor, *, full: bool = False) -> Lesson:
        """What the teachers say of pictures (B, 1 or 3, S, S) float, 0..1; compiled code is for full batches alone."""
        probabilities, output = [], None
        for teacher in self._members:
            output = teacher.answer(images, full)
            probabilities.append(self._probabilities(teacher, output))
            if self.mirrored:
                probabilities.append(self._probabilities(teacher, teacher.answer(images.flip(-1), full)))
        assert output is not None  # a distillation names at least one teacher
        return Lesson(torch.stack(probabilities).mean(dim=0), output.features)

    def _probabilities(self, teacher: _Teacher, output: ModelOutput) -> Tensor:
        """In the order of the student's classes."""
        return (output.logits[:, teacher.columns].float() / self.temperature).softmax(dim=1)


def teachers_record(config: Distillation) -> dict[str, str]:
    """Folder -> sha256 of its weights, so that a run is resumed with the same teachers alone.

    Raises:
        ConfigError: if a folder holds no weights.
    """
    return {folder: sha256_of(weights_file(folder)) for folder in config.teachers}


def require_same_look(teacher: FinishedRun, run: Run) -> None:
    """Make sure that a teacher knows pictures that look like those of a run; their size may differ.

    Raises:
        ConfigError: if colour, detail or alignment differ.
    """
    for name, theirs, ours in (
        ("appearance", teacher.run.data.appearance, run.data.appearance),
        ("template", teacher.run.data.alignment.template, run.data.alignment.template),
        ("margin", teacher.run.data.alignment.margin, run.data.alignment.margin),
    ):
        if theirs != ours:
            raise ConfigError(
                f"teacher {teacher.folder} was trained on pictures of another {name}, {theirs}, not {ours}; choose "
                "another teacher, or train with its settings"
            )


def _prepare(teacher: FinishedRun, run: Run, classes: tuple[str, ...], device: torch.device) -> _Teacher:
    if set(teacher.classes) != set(classes):
        raise ConfigError(
            f"teacher {teacher.folder} knows {', '.join(teacher.classes)}, the run is to learn {', '.join(classes)}; "
            "choose a teacher of the same classes, or --set data.classes"
        )
    require_same_look(teacher, run)
    network = teacher.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    forward = torch.compile(network, dynamic=False) if run.compile else network
    return _Teacher(network, forward, [teacher.classes.index(name) for name in classes], teacher.run.data)
