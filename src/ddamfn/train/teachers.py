"""Teachers of a run: finished runs, exported files, or the network that the phase before kept.

See `ddamfn.objectives.distillation` for the settings and the loss.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.classifier import alignment_of, preprocessing_of
from ddamfn.errors import ConfigError
from ddamfn.files import sha256_file
from ddamfn.models import ModelOutput
from ddamfn.objectives import CachedDistillation, LiveDistillation, SelfDistillation, SoftTargets
from ddamfn.train.augment import Batch, to_input
from ddamfn.train.config import Data, Run, to_dict
from ddamfn.train.initial import read_exported, weights_file
from ddamfn.train.run_folder import read_run
from ddamfn.train.step import evaluate_split, mixed_precision
from ddamfn.train.tensorset import TensorSplit


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network, and the preprocessing of its images."""

    place: str  # a run's folder, an exported file, or a name, as given
    network: nn.Module  # in evaluation mode, on the CPU
    classes: tuple[str, ...]  # canonical, in the order of the outputs
    data: Data  # of an exported file only what concerns the input


def read_teacher(place: str) -> Teacher:
    """Read a teacher: a finished run's folder, an exported `.onnx` file with its card, or bundled weights by name."""
    if Path(place).is_dir():
        finished = read_run(place)
        return Teacher(place, finished.network, finished.classes, finished.run.data)
    if weights_file(place).suffix.lower() != ".onnx":
        raise ConfigError(
            f"teacher {place} does not record its preprocessing; name a finished run's folder, an exported .onnx file, "
            "or weights of this package"
        )
    network, card = read_exported(place)
    data = Data(
        alignment=alignment_of(card),
        preprocessing=preprocessing_of(card),
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

    def predict(self, images: Tensor, full: bool) -> ModelOutput:
        network = self.forward if full else self.network
        side_px = self.data.alignment.side_px
        if images.shape[-1] != side_px:
            images = F.interpolate(images, (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)
        with mixed_precision(images.device):
            output: ModelOutput = network(to_input(images, self.data.mean, self.data.std))
        return output


class Teachers:
    """The finished teachers of one run, in evaluation mode and without gradients; classes may be in another order.

    Images of another size are resampled to the size that a teacher was trained at: at other sizes its outputs are worth
    nothing.
    """

    def __init__(
        self, config: LiveDistillation | CachedDistillation, run: Run, classes: tuple[str, ...], device: torch.device
    ) -> None:
        self.temperature, self.flip_average = config.temperature, config.flip_average
        self._members = [_prepare(read_teacher(place), run, classes, device) for place in config.teachers]

    @torch.no_grad()
    def __call__(self, images: Tensor, *, full: bool = False) -> SoftTargets:
        """Soft targets of images (B, 1 or 3, S, S) float, 0..1; compiled code is for full batches alone."""
        probabilities, output = [], None
        for teacher in self._members:
            output = teacher.predict(images, full)
            probabilities.append(self._probabilities(teacher, output))
            if self.flip_average:
                probabilities.append(self._probabilities(teacher, teacher.predict(images.flip(-1), full)))
        assert output is not None  # a distillation names at least one teacher
        return SoftTargets(torch.stack(probabilities).mean(dim=0), output.features)

    def _probabilities(self, teacher: _Member, output: ModelOutput) -> Tensor:
        """In the order of the student's classes."""
        return (output.logits[:, teacher.columns].float() / self.temperature).softmax(dim=1)


class TeacherTargets:
    """Where a run's soft targets come from, whatever the kind of distillation."""

    def __call__(self, rows: Tensor, batch: Batch, *, full: bool) -> SoftTargets | None:
        """Soft targets of a batch, None if there are none yet; rows (B,) int64 on the CPU, code compiled if `full`."""
        raise NotImplementedError

    def begin_phase(self, network: Callable[[], nn.Module], split: TensorSplit, batch_size: int) -> None:
        """Update the targets by the network that the phase before kept; no-op by default."""

    def state(self) -> Tensor | None:
        """What a checkpoint needs: (N, K) float32 or None."""
        return None

    def load_state(self, state: Tensor | None) -> None:
        """Restore `state`; no-op by default."""


class LiveTargets(TeacherTargets):
    """Teachers that run on every batch, before random erasing where that is asked for."""

    def __init__(self, teachers: Teachers) -> None:
        self._teachers = teachers

    def __call__(self, rows: Tensor, batch: Batch, *, full: bool) -> SoftTargets:
        """Run the teachers."""
        return self._teachers(batch.images if batch.unerased is None else batch.unerased, full=full)


class CachedTargets(TeacherTargets):
    """Teachers that run once on all training images, unaugmented and at full side: uint8 (N, 1 or 3, S, S)."""

    def __init__(self, teachers: Teachers, images: Tensor, num_classes: int) -> None:
        self._teachers, self._images = teachers, images
        self._targets = torch.full((len(images), num_classes), torch.nan, device=images.device)
        # On the CPU, because looking must not wait for a GPU.
        self._known = torch.zeros(len(images), dtype=torch.bool)

    def __call__(self, rows: Tensor, batch: Batch | None = None, *, full: bool = False) -> SoftTargets:
        """Look the rows up, and run the teachers on those that are new."""
        new = rows[~self._known[rows]]
        if len(new):
            there = new.to(self._targets.device)
            self._targets[there] = self._teachers(self._images[there].float() / 255).probabilities
            self._known[new] = True
        return SoftTargets(self._targets[rows.to(self._targets.device)], None)

    def state(self) -> Tensor:
        """Rows of NaN where no teacher has run yet."""
        return self._targets

    def load_state(self, state: Tensor | None) -> None:
        """Go on with the targets of a checkpoint."""
        assert state is not None  # written by `state`
        self._targets = state.to(self._targets.device)
        self._known = ~state[:, 0].isnan().cpu()


class SelfTargets(TeacherTargets):
    """The outputs of the network that the phase before kept (Furlanello et al., 2018)."""

    def __init__(self, config: SelfDistillation, data: Data, device: torch.device) -> None:
        self._config, self._data, self._device = config, data, device
        self._targets: Tensor | None = None

    def begin_phase(self, network: Callable[[], nn.Module], split: TensorSplit, batch_size: int) -> None:
        """Run the network on all training images, without augmentation."""
        teacher = network()
        views = [split, replace(split, images=split.images.flip(-1))] if self._config.flip_average else [split]
        logits = [evaluate_split(teacher, view, self._data, batch_size).logits for view in views]
        self.load_state(torch.stack([(one / self._config.temperature).softmax(dim=1) for one in logits]).mean(dim=0))

    def __call__(self, rows: Tensor, batch: Batch, *, full: bool) -> SoftTargets | None:
        """Look the rows up; None in the first phase."""
        return None if self._targets is None else SoftTargets(self._targets[rows.to(self._device)], None)

    def state(self) -> Tensor | None:
        """(N, K) float32; None in the first phase."""
        return self._targets

    def load_state(self, state: Tensor | None) -> None:
        """Go on with the targets of a checkpoint."""
        self._targets = None if state is None else state.to(self._device)


def create_teacher_targets(run: Run, split: TensorSplit) -> TeacherTargets | None:
    """The soft targets that a run's distillation asks for, None without one; raises as `Teachers`."""
    config, device = run.distillation, split.images.device
    if config is None:
        return None
    if isinstance(config, SelfDistillation):
        return SelfTargets(config, run.data, device)
    teachers = Teachers(config, run, split.classes, device)
    if isinstance(config, LiveDistillation):
        return LiveTargets(teachers)
    return CachedTargets(teachers, split.images, len(split.classes))


def teachers_record(config: LiveDistillation | CachedDistillation) -> dict[str, str]:
    """Place -> sha256 of its weights, so that a run is resumed with the same teachers alone."""
    return {place: sha256_file(weights_file(place)) for place in config.teachers}


def require_same_preprocessing(teacher: Teacher, run: Run) -> None:
    """Raise ConfigError if a teacher's images differ from the run's in more than their size."""
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
            f"teacher {teacher.place} has the classes {', '.join(teacher.classes)}, the run {', '.join(classes)}; "
            "choose a teacher of the same classes, or --set data.classes"
        )
    require_same_preprocessing(teacher, run)
    network = teacher.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    forward = torch.compile(network, dynamic=False) if run.compile else network
    return _Member(network, forward, [teacher.classes.index(name) for name in classes], teacher.data)
