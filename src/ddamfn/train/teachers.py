"""Teachers: finished runs, or exported files, whose answers another run learns.

See `ddamfn.objectives.distillation` for what is learned.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.classifier import alignment_of
from ddamfn.errors import ConfigError
from ddamfn.faces import Preprocessing
from ddamfn.models import ModelOutput
from ddamfn.objectives import Distillation, Lesson
from ddamfn.train.augment import to_input
from ddamfn.train.config import Data, Run, to_dict
from ddamfn.train.initial import sha256_of, weights_file
from ddamfn.train.restore import read_exported
from ddamfn.train.run_folder import read_run
from ddamfn.train.step import answer, mixed_precision
from ddamfn.train.tensorset import TensorSplit


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network, and the images that it knows.

    Attributes:
        place: a run's folder, an exported file, or a name, as it was given.
        network: in evaluation mode, on the CPU.
        classes: canonical names in the order of its outputs.
        data: color, detail, alignment and normalization of its images; of an exported file nothing else.
    """

    place: str
    network: nn.Module
    classes: tuple[str, ...]
    data: Data


def read_teacher(place: str) -> Teacher:
    """Read who is to teach.

    Args:
        place: a finished run's folder, an exported `.onnx` file with its card, or the name of bundled weights.

    Raises:
        ConfigError: if there is no such place.
        TrainingError: if a run's folder is damaged, or holds a pretext task.
        WeightsError: if an exported file is damaged or quantized, or its card is missing.
    """
    if Path(place).is_dir():
        finished = read_run(place)
        return Teacher(place, finished.network, finished.classes, finished.run.data)
    path = weights_file(place)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(
            f"teacher {place} says nothing of its images; name a finished run's folder, an exported .onnx file, or "
            "weights of this package"
        )
    network, card = read_exported(place)
    data = Data(
        alignment=alignment_of(card),
        preprocessing=Preprocessing(card.preprocessing["color"], card.preprocessing["detail_px"]),
        mean=card.mean,
        std=card.std,
    )
    return Teacher(place, network, card.labels, data)


@dataclass(frozen=True, eq=False)
class _Member:
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

    They see the very images that the student sees, after augmentation and mixing; with `Distillation.uncovered` the
    same images without random erasing; for `Distillation.once`, see `KeptAnswers`. Images of a phase with another
    size are resampled to the size that a teacher was trained at: at other sizes its answers are worth nothing.

    Args:
        config: who teaches.
        run: the student's run.
        classes: the student's classes, in the order of its outputs; a teacher may have the same ones in another order.
        device: where the networks shall live.

    Raises:
        ConfigError: if a teacher knows other classes, or was trained on images that look otherwise; or as
            `read_teacher`.
        TrainingError: as `read_teacher`.
        WeightsError: as `read_teacher`.
    """

    def __init__(self, config: Distillation, run: Run, classes: tuple[str, ...], device: torch.device) -> None:
        self.temperature, self.mirrored = config.temperature, config.mirrored
        self._members = [_prepare(read_teacher(place), run, classes, device) for place in config.teachers]

    @torch.no_grad()
    def __call__(self, images: Tensor, *, full: bool = False) -> Lesson:
        """What the teachers say of images (B, 1 or 3, S, S) float, 0..1; compiled code is for full batches alone."""
        probabilities, output = [], None
        for teacher in self._members:
            output = teacher.answer(images, full)
            probabilities.append(self._probabilities(teacher, output))
            if self.mirrored:
                probabilities.append(self._probabilities(teacher, teacher.answer(images.flip(-1), full)))
        assert output is not None  # a distillation names at least one teacher
        return Lesson(torch.stack(probabilities).mean(dim=0), output.features)

    def _probabilities(self, teacher: _Member, output: ModelOutput) -> Tensor:
        """In the order of the student's classes."""
        return (output.logits[:, teacher.columns].float() / self.temperature).softmax(dim=1)


class KeptAnswers:
    """Teachers that are asked once of every training image as it is; later epochs read what they said.

    Args:
        teachers: who is asked.
        images: uint8 (N, 1 or 3, S, S), all training images at their full side.
        classes: K, how many the student has.
    """

    def __init__(self, teachers: Teachers, images: Tensor, classes: int) -> None:
        self._teachers, self._images = teachers, images
        self._answers = torch.full((len(images), classes), torch.nan, device=images.device)
        # On the CPU, because looking must not wait for a GPU.
        self._asked = torch.zeros(len(images), dtype=torch.bool)

    def __call__(self, rows: Tensor) -> Lesson:
        """What the teachers say of the images of these rows, int64 (B,) on the CPU."""
        new = rows[~self._asked[rows]]
        if len(new):
            there = new.to(self._answers.device)
            self._answers[there] = self._teachers(self._images[there].float() / 255).probabilities
            self._asked[new] = True
        return Lesson(self._answers[rows.to(self._answers.device)], None)

    def state(self) -> Tensor:
        """For a checkpoint: (N, K) float32, rows of NaN where nobody was asked yet."""
        return self._answers

    def load_state(self, state: Tensor) -> None:
        """Go on with the answers of a checkpoint."""
        self._answers = state.to(self._answers.device)
        self._asked = ~state[:, 0].isnan().cpu()


class OwnAnswers:
    """What the network itself said of every training image at the end of the phase before (Furlanello et al., 2018).

    Args:
        config: how it is asked.
        device: where the answers are wanted.
    """

    def __init__(self, config: Distillation, device: torch.device) -> None:
        self._temperature, self._mirrored, self._device = config.temperature, config.mirrored, device
        self._answers: Tensor | None = None

    def ask(self, network: nn.Module, split: TensorSplit, data: Data, batch_size: int) -> None:
        """Ask of all images of a split, as they are, and forget what was said before."""
        asked = [split, replace(split, images=split.images.flip(-1))] if self._mirrored else [split]
        logits = [answer(network, images, data, batch_size).logits for images in asked]
        self.load_state(torch.stack([(one / self._temperature).softmax(dim=1) for one in logits]).mean(dim=0))

    def __call__(self, rows: Tensor) -> Lesson | None:
        """What was said of the images of these rows, int64 (B,); None if nobody was asked yet."""
        return None if self._answers is None else Lesson(self._answers[rows.to(self._device)], None)

    def state(self) -> Tensor | None:
        """For a checkpoint: (N, K) float32."""
        return self._answers

    def load_state(self, state: Tensor | None) -> None:
        """Go on with the answers of a checkpoint."""
        self._answers = None if state is None else state.to(self._device)


def teachers_record(config: Distillation) -> dict[str, str]:
    """Place -> sha256 of its weights, so that a run is resumed with the same teachers alone.

    Raises:
        ConfigError: if a place holds no weights.
    """
    return {place: sha256_of(weights_file(place)) for place in config.teachers}


def require_same_preprocessing(teacher: Teacher, run: Run) -> None:
    """Make sure that a teacher knows images that look like those of a run; their size may differ.

    Raises:
        ConfigError: if color, detail or alignment differ.
    """
    for name, theirs, ours in (
        ("preprocessing", teacher.data.preprocessing, run.data.preprocessing),
        ("template", teacher.data.alignment.template, run.data.alignment.template),
        ("margin", teacher.data.alignment.margin, run.data.alignment.margin),
    ):
        if theirs != ours:
            raise ConfigError(
                f"teacher {teacher.place} was trained on images of another {name}, {_shown(theirs)}, not "
                f"{_shown(ours)}; choose another teacher, or train with its settings"
            )


def _shown(value: Any) -> str:
    """A setting as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(to_dict(value))


def _prepare(teacher: Teacher, run: Run, classes: tuple[str, ...], device: torch.device) -> _Member:
    if set(teacher.classes) != set(classes):
        raise ConfigError(
            f"teacher {teacher.place} knows {', '.join(teacher.classes)}, the run is to learn {', '.join(classes)}; "
            "choose a teacher of the same classes, or --set data.classes"
        )
    require_same_preprocessing(teacher, run)
    network = teacher.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    forward = torch.compile(network, dynamic=False) if run.compile else network
    return _Member(network, forward, [teacher.classes.index(name) for name in classes], teacher.data)
