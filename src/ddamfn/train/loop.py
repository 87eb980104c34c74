"""The training loop: steps, validation, checkpoints, exact resume."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.models import create_network
from ddamfn.objectives import Context, PretextObjective
from ddamfn.train.augment import Augmenter, seed_step, to_input
from ddamfn.train.average import MovingAverage, with_precise_bn
from ddamfn.train.config import Phase, Run
from ddamfn.train.initial import begin_from
from ddamfn.train.optim import build_optimizer, learning_rate, load_optimizer_state, optimizer_state, set_learning_rate
from ddamfn.train.pretraining import PretextTask
from ddamfn.train.run_folder import RunFolder, environment, load_state, save_state, write_json
from ddamfn.train.settings import require_network
from ddamfn.train.step import train_step
from ddamfn.train.task import SupervisedTask, Task
from ddamfn.train.tensorset import TensorSplit, epoch_batches

log = logging.getLogger(__name__)

_CHECK_STEPS = 50
"""How often the numbers are looked at to see that they are finite: each look waits for the device."""
_PROBE_IMAGES = 1024
"""How many images give a network that begins without statistics its first ones."""
_SHOW_STEPS = 10
"""How often the callback gets the loss where reading it waits for the device."""


class TrainingCallback(Protocol):
    """Follows a run; the command line draws a progress bar from it."""

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Begin an epoch, counted from 1, of so many images, some of which are done when a run resumes."""

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Count images; loss and accuracy are the epoch's so far, None where reading them would wait for a GPU.

        The accuracy is also None where nothing is classified.
        """

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Take the row that goes into metrics.jsonl; of a pretext task it has no validation scores."""


@dataclass(frozen=True)
class FitResult:
    """What a finished run reached on validation."""

    folder: Path
    last: dict[str, Any]  # the last epoch's row of metrics.jsonl
    best: dict[str, Any]  # row of the last phase's best epoch; of a pretext task, the last


class Trainer:
    """One run's network, optimizer and task, and where in the run they stand."""

    def __init__(self, run: Run, train: TensorSplit, valid: TensorSplit | None, folder: RunFolder) -> None:
        torch.manual_seed(run.seed)
        self.run, self.folder, self.device = run, folder, train.images.device
        self.train_split, self.valid_split = train, valid
        self.network = create_network(run.model.name, num_classes=len(train.classes), **run.model.options)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.record: dict[str, Any] = {}
        if run.initial is not None and not folder.state.exists():
            self.record["initial"] = begin_from(self.network, run.initial, self._first_inputs)
        self.forward = torch.compile(self.network, dynamic=False) if run.compile else self.network
        self.task: Task = (
            PretextTask(run.objective, train, self.network)
            if isinstance(run.objective, PretextObjective)
            else SupervisedTask(run, train)
        )
        self.record |= self.task.record
        self.criterion, self.teacher = self.task.criterion, self.task.teacher
        self.optimizer = build_optimizer(run.optimizer, [*self.network.parameters(), *self.criterion.parameters()])
        self.average = None if run.ema is None else MovingAverage(self.network, run.ema)
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.sums: dict[str, Tensor] = {}
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None

    def _first_inputs(self) -> Tensor:
        return self._as_input(self._some_images(_PROBE_IMAGES, self.run.phases[0].side_px))

    def _some_images(self, count: int, side_px: int) -> Tensor:
        """As many training images, always the same, without augmentation."""
        rows = torch.randperm(len(self.train_split), generator=torch.Generator().manual_seed(self.run.seed))
        return self.train_split.subset(rows[:count]).resized(side_px).images

    def _as_input(self, images: Tensor) -> Tensor:
        return to_input(images.float() / 255, self.run.data.mean, self.run.data.std)

    def _to_keep(self, phase: Phase) -> nn.Module:
        """The network to validate and keep: the moving average if there is one, with PreciseBN if asked for."""
        network: nn.Module = self.network if self.average is None else self.average.module
        if self.run.precise_bn is None:
            return network
        seed_step(self.run.seed, self.epoch, self.step)  # a resumed run must draw the same drop paths
        images = self._some_images(self.run.precise_bn, phase.side_px)
        return with_precise_bn(network, images, self._as_input)

    def fit(self, callback: TrainingCallback) -> FitResult:
        """Train from where the run stands to its end."""
        while self.epoch < self.run.epochs:
            phase, _ = self.run.place_of(self.epoch)
            train = self.train_split.resized(phase.side_px)
            valid = None if self.valid_split is None else self.valid_split.resized(phase.side_px)
            while self.epoch < self.run.epochs and self.run.place_of(self.epoch)[0] is phase:
                self._epoch(train, valid, phase, callback)
        assert self.last is not None  # a run has an epoch, trained just now or on record
        assert self.best is not None
        write_json({"last": self.last, "best": self.best}, self.folder.result)
        return FitResult(self.folder.path, self.last, self.best)

    def _begin_phase(self) -> None:
        """Before the first step of every phase but the first, let the teacher learn what the phase before kept."""
        if self.teacher is None or self.epoch == 0 or self.step or self.run.place_of(self.epoch)[1]:
            return
        before, _ = self.run.place_of(self.epoch - 1)
        self.teacher.begin_phase(
            lambda: self._to_keep(before), self.train_split.resized(before.side_px), before.batch_size
        )

    def _epoch(self, train: TensorSplit, valid: TensorSplit | None, phase: Phase, callback: TrainingCallback) -> None:
        self._begin_phase()
        generator = torch.Generator().manual_seed(self.run.seed * 1_000_003 + self.epoch)
        batches = epoch_batches(train, phase.batch_size, balanced=self.run.data.balanced, generator=generator)
        sizes = [len(batch) for batch in batches]
        augment = Augmenter(self.run.augment, phase.side_px, self.run.data.preprocessing)
        callback.epoch_started(self.epoch + 1, self.run.epochs, sum(sizes), sum(sizes[: self.step]), phase.side_px)
        self.network.train()
        start = time.perf_counter()
        while self.step < len(batches):
            self._step(train, batches[self.step], augment, self.step / len(batches), phase.batch_size)
            self.step += 1
            callback.step_done(sizes[self.step - 1], *self._running())
            save = self.step % self.run.checkpoint_steps == 0 and self.step < len(batches)
            if save or self.step % _CHECK_STEPS == 0 or self.step == len(batches):
                self._require_finite()
            if save:
                self.seconds += time.perf_counter() - start
                start = time.perf_counter()
                self._save()
        self.seconds += time.perf_counter() - start
        self._close_epoch(valid, phase, callback)

    def _step(self, train: TensorSplit, rows: Tensor, augment: Augmenter, part: float, batch_size: int) -> None:
        seed_step(self.run.seed, self.epoch, self.step)
        set_learning_rate(self.optimizer, learning_rate(self.run, self.epoch, part))
        # Code is compiled for full batches alone: an epoch's last one is not worth a second compilation.
        full = len(rows) == batch_size
        batch, soft_targets = self.task.batch(train, rows, augment, full=full)
        inputs = to_input(batch.images, self.run.data.mean, self.run.data.std)
        context = Context(rows=rows.to(self.device), epoch=self.epoch, weights=batch.weights, soft_targets=soft_targets)
        network = self.forward if full else self.network
        sums = train_step(
            network, self.criterion, self.optimizer, inputs, batch.targets, context, self.run.optimizer.clip_norm
        )
        self.sums = {name: value + self.sums.get(name, 0.0) for name, value in sums.items()}
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _running(self) -> tuple[float | None, float | None]:
        if self.device.type == "cuda" and self.step % _SHOW_STEPS:
            return None, None
        n, num_correct = self.sums["n"], self.sums.get("num_correct")
        return float(self.sums["loss"] / n), None if num_correct is None else float(num_correct / n)

    def _require_finite(self) -> None:
        """Look at the loss and at the weights: no checkpoint may hold what is not a number."""
        numbers = [*self.sums.values(), *self.network.state_dict().values(), *self.criterion.state_dict().values()]
        if not bool(torch.stack([torch.isfinite(tensor).all() for tensor in numbers]).all()):
            kept = self.folder.state
            raise TrainingError(
                f"{self.folder.path}: loss or weights are not finite in epoch {self.epoch + 1}, step {self.step}; "
                + (f"{kept} is from before and intact; " if kept.exists() else "no checkpoint was written yet; ")
                + "begin a run of another --name with a lower --set optimizer.lr"
            )

    def _close_epoch(self, valid: TensorSplit | None, phase: Phase, callback: TrainingCallback) -> None:
        n, kept = float(self.sums["n"]), self._to_keep(phase)
        means = {name.replace("num_correct", "accuracy"): float(value) / n for name, value in self.sums.items()}
        row = {
            "epoch": self.epoch + 1,
            "side_px": phase.side_px,
            "lr": learning_rate(self.run, self.epoch, 1.0 - 1e-9),
            "train": {**means, "n": int(n)},
            **self.task.validate(kept, valid, phase.batch_size),
            "seconds": self.seconds,
            "images_per_second": n / self.seconds,
        }  # fmt: skip
        in_last_phase = self.epoch >= self.run.epochs - self.run.phases[-1].epochs
        self.last, self.best = row, self.task.keep(kept, row, self.best, self.folder, last=in_last_phase)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums = {}
        self._save()
        self.folder.append(row)
        callback.epoch_done(row)

    def _save(self) -> None:
        average = None if self.average is None else self.average.state_dict()
        save_state(
            {
                "network": self.network.state_dict(), "average": average, "criterion": self.criterion.state_dict(),
                "optimizer": optimizer_state(self.optimizer), "epoch": self.epoch, "step": self.step,
                "seconds": self.seconds, "sums": self.sums, "best": self.best, "last": self.last,
                "teacher": None if self.teacher is None else self.teacher.state(),
            },
            self.folder.state,
        )  # fmt: skip

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        if not self.folder.state.exists():
            return
        state = load_state(self.folder.state)
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.criterion.load_state_dict(state["criterion"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state(state["teacher"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.best, self.last = state["best"], state["last"]
        self.folder.forget_after(self.epoch)
        rows = self.folder.rows()
        if self.last is not None and (not rows or rows[-1]["epoch"] < self.epoch):
            self.folder.append(self.last)  # the kill fell between the checkpoint and the row
        log.info("resumed %s at epoch %d, step %d", self.folder.path, self.epoch + 1, self.step)


def fit(
    run: Run,
    train: TensorSplit,
    valid: TensorSplit | None,
    folder: Path,
    callback: TrainingCallback,
    *,
    resume: bool = False,
    argv: Sequence[str] | None = None,
) -> FitResult:
    """Train one run into a folder.

    Args:
        run: what to do; with a pretext task, only the trunk is kept, as `checkpoints/trunk.safetensors`.
        train: training images, at the side of `run.data.alignment`.
        valid: images to select on; never the test split. None for a pretext task, which selects nothing.
        folder: where everything is written.
        callback: follows the run.
        resume: go on in a folder that holds the same run.
        argv: the command line that began the run, for its record.

    Raises:
        ConfigError: if the folder holds another run, another process trains in it, the network cannot be built,
            cannot be compiled or lacks what the objective needs, `initial` or a teacher does not fit, or images to
            select on are missing, or given to a pretext task.
        DataError: if a class has no training image.
        TrainingError: for a loss that is not finite, a disk that refuses, or a device without memory.
        WeightsError: if `initial` or a teacher is an exported file that is damaged, quantized or without its card.
    """
    if isinstance(run.objective, PretextObjective) != (valid is None):
        need = "takes no" if valid is not None else "needs"
        raise ConfigError(f"the objective {run.objective.name} {need} labeled images to select on")
    if valid is not None:
        train.require_every_class()
    require_network(run)
    place = RunFolder(folder)
    splits = {"train": train} if valid is None else {"train": train, "valid": valid}
    data = {name: {"n": len(split), "sha256": split.fingerprint()} for name, split in splits.items()}
    with place.lock():
        # Made before the folder's files: what does not fit leaves no run behind.
        trainer = Trainer(run, train, valid, place)
        place.begin(run, {**environment(train.images.device, data, argv), **trainer.record}, resume=resume)
        trainer.resume()
        with _translate_errors(run, place):
            return trainer.fit(callback)


@contextmanager
def _translate_errors(run: Run, folder: RunFolder) -> Iterator[None]:
    """Train inside of this; a run that does not fit, and has no checkpoint yet, leaves no files behind."""
    try:
        yield
    except ConfigError:
        folder.withdraw()
        raise
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{folder.path}: the device has too little memory; begin a run of another --name with smaller batches, "
            f"such as --set phases.0.batch_size={run.phases[0].batch_size // 2}"
        ) from error
    except RuntimeError as error:
        if not _is_from_compiling(error):
            raise
        folder.withdraw()
        raise ConfigError(
            f"the network cannot be compiled here ({_first_line(error)}); install a C++ compiler, such as g++, and "
            "Python's headers, or train with --set compile=false"
        ) from error


def _is_from_compiling(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # only here: importing it takes seconds

    return isinstance(error, TorchDynamoException)


def _first_line(error: RuntimeError) -> str:
    cause = getattr(error, "inner_exception", error)
    return str(cause).strip().partition("\n")[0]
