"""Runs the jobs of a study: train, score, record; with an estimate of the remaining time."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.evaluate import score
from ddamfn.models import create_model
from ddamfn.models.complexity import count_macs, count_parameters
from ddamfn.objectives import LiveDistillation, SelfDistillation
from ddamfn.study.classic import fit_estimator
from ddamfn.study.images import Parts, StudyImages
from ddamfn.study.jobs import LEDGER, Job, Ledger, Result, Study, claim
from ddamfn.train import FitResult, Run, TrainingCallback, fit
from ddamfn.train.run_folder import RunFolder, load_weights_file, replace_file
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit

RATES = MappingProxyType({"cpu": 12e9, "cuda": 1.6e12})
"""Multiply-accumulates of forward passes a second while training.

CPU: DDAMFN on two AMD EPYC cores, 112 images/s at 48 px (EXPERIMENTS.md). CUDA: an assumption, 3,000 images/s of
DDAMFN at 112 px; the first finished job replaces it.
"""


_TEACHER = 0.25
"""A teacher's pass in passes of training, which are followed by the gradient: 448 images/s against 100 or so."""


def work(run: Run, images: int) -> float:
    """Multiply-accumulates of all forward passes of a run over so many training images.

    Teachers are taken for networks like the student.
    """
    passes = 1.0 if run.optimizer.sam_rho is None else 2.0
    if run.distillation is not None:
        teachers = 1 if isinstance(run.distillation, SelfDistillation) else len(run.distillation.teachers)
        extra = _TEACHER * teachers * (2 if run.distillation.flip_average else 1)
        passes += extra if isinstance(run.distillation, LiveDistillation) else extra / run.epochs
    options = tuple(sorted(run.model.options.items()))
    macs = sum(phase.epochs * _macs(run.model.name, options, phase.side_px) for phase in run.phases)
    return float(passes * macs * images)


@lru_cache(maxsize=256)
def _macs(name: str, options: tuple[tuple[str, object], ...], side_px: int) -> int:
    with torch.device("meta"):
        network = create_model(name, num_classes=7, **dict(options))
    return count_macs(network, (side_px, side_px))


class EtaEstimator:
    """Seconds that jobs will take.

    Args:
        device: "cpu" or "cuda".
        images: that one job trains on.
    """

    def __init__(self, device: str, images: int) -> None:
        self._rate, self._images = RATES.get(device, RATES["cpu"]), images
        self._work, self._seconds = 0.0, 0.0

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second: this study's own once a job is finished, until then the last guess."""
        return self._work / self._seconds if self._seconds else self._rate

    def guess(self, done: float, seconds: float) -> None:
        """Take an epoch's rate until a job is finished."""
        self._rate = done / seconds

    def learn(self, job: Job, result: Result) -> None:
        """Take a finished job into the measured rate."""
        if job.estimator is not None:
            return
        self._work += work(job.run, result.n_train)
        self._seconds += result.seconds

    def seconds(self, jobs: Sequence[Job]) -> float:
        """Estimate for jobs, one after another; estimators without epochs count nothing."""
        return sum(work(job.run, self._trained(job)) for job in jobs if job.estimator is None) / self.rate

    def _trained(self, job: Job) -> int:
        return self._images if job.images is None else min(self._images, job.images)


ANSWERS = "answers.npz"


class _Trained(NamedTuple):
    """What a job's training came to; the numbers of epochs are 0 where there are none."""

    parameters: int
    valid_accuracy: float
    epoch: int
    epochs: int
    seconds: float
    images_per_second: float
    head_means: tuple[float, ...] = ()
    head_difference: float = 0.0
    max_attention_mean: float = 0.0


class Answers(NamedTuple):
    """A job's answers to the images that it was scored on.

    Attributes:
        keys: N names.
        true: (N,) int64, columns of the classes.
        logits: (N, K) float32.
    """

    keys: NDArray[np.str_]
    true: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which are correct, (N,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.true)


def run_job(job: Job, parts: Parts, folder: Path, reporter: TrainingCallback) -> Result:
    """Train a job, or go on with it where a kill left it, and score it.

    The test part is read here, once a job and after the training has ended, by the network that was best on validation.
    No epoch, setting or seed is chosen by what comes of it.

    Args:
        job: what to do.
        parts: its images.
        folder: of the run.
        reporter: who is told of the epochs.

    Raises:
        TrainingError: if the run cannot go on or the disk refuses.
        ConfigError: if the folder holds another run.
        DataError: if a class has no training image.
    """
    if job.estimator is not None:
        trained, answers = _fit_estimator(job, job.estimator, parts)
    else:
        trained, answers = _answer(job, parts, _train(job, parts, folder, reporter))
    folder.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    np.savez_compressed(content, keys=answers.keys, true=answers.true, logits=answers.logits)
    replace_file(folder / ANSWERS, content.getbuffer())
    return _result(job, parts, trained, answers)


def discard_state(folder: Path) -> None:
    """Delete what only an unfinished job needs, several times its network's size; networks, record and answers stay.

    To be called once the result is in the ledger: without either, a killed study would train the job again.
    """
    RunFolder(folder).state.unlink(missing_ok=True)


def load_answers(folder: Path) -> Answers:
    """Read a finished job's answers.

    Raises:
        TrainingError: if the file is missing or damaged.
    """
    try:
        with np.load(folder / ANSWERS) as file:
            return Answers(file["keys"], file["true"], file["logits"])
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder / ANSWERS}: cannot be read ({error}); delete {folder} to run the job anew"
        ) from error


def _train(job: Job, parts: Parts, folder: Path, reporter: TrainingCallback) -> FitResult:
    place = RunFolder(folder)
    if place.result.exists() and not place.state.exists():  # finished, and its line of the ledger was lost
        reached = json.loads(place.result.read_text(encoding="utf-8"))
        return FitResult(folder, reached["last"], reached["best"])
    if job.run.compile:
        # Other jobs' code counts towards PyTorch's limit of versions of a function, past which it no longer compiles.
        torch.compiler.reset()
    return fit(job.run, parts.train, parts.valid, folder, reporter, resume=True)


def _answer(job: Job, parts: Parts, outcome: FitResult) -> tuple[_Trained, Answers]:
    run, test = job.run, parts.test
    network = create_model(run.model.name, num_classes=len(test.classes), **run.model.options)
    network.load_state_dict(load_weights_file(RunFolder(outcome.folder).best))
    network.to(test.images.device)
    phase = run.phases[-1]
    answers = evaluate_split(network, test.resized(phase.side_px), run.data, phase.batch_size)
    rows, best = RunFolder(outcome.folder).rows(), outcome.best
    seconds = sum(row["seconds"] for row in rows)
    trained = _Trained(
        parameters=count_parameters(network),
        valid_accuracy=best["valid"]["accuracy"],
        epoch=best["epoch"],
        epochs=run.epochs,
        seconds=seconds,
        images_per_second=sum(row["train"]["n"] for row in rows) / seconds,
        head_means=tuple(best["head_means"]),
        head_difference=best["head_difference"],
        max_attention_mean=best["max_attention_mean"],
    )
    return trained, _answers(test, answers.logits.numpy())


def _fit_estimator(job: Job, name: str, parts: Parts) -> tuple[_Trained, Answers]:
    fitted = fit_estimator(name, job.seed, *parts, side_px=job.run.phases[-1].side_px)
    right = _answers(parts.valid, fitted.valid).right
    trained = _Trained(0, float(right.mean()), 0, 0, fitted.seconds, len(parts.train) / fitted.seconds)
    return trained, _answers(parts.test, fitted.test)


def _answers(split: TensorSplit, logits: NDArray[np.float32]) -> Answers:
    return Answers(np.array(split.keys), split.targets.argmax(dim=1).cpu().numpy(), logits)


def _result(job: Job, parts: Parts, trained: _Trained, answers: Answers) -> Result:
    scores = score(answers.logits, parts.test.targets.cpu().numpy(), parts.test.classes)
    device = parts.train.images.device
    return Result(
        job=job.id,
        row=job.row,
        seed=job.seed,
        fold=None if job.fold is None else job.fold.number,
        n_train=len(parts.train),
        n_valid=len(parts.valid),
        n=scores.n,
        correct=scores.correct,
        accuracy=scores.accuracy,
        ci95=scores.ci95,
        mean_class_accuracy=scores.mean_class_accuracy,
        macro_f1=scores.macro_f1,
        test=Path(parts.test.origin.partition(" of ")[2]).name,
        rule=job.run.data.rule if job.fold is not None else job.run.data.validation_rule,
        device=_score_device_name(job, device),
        commit=job.commit,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **trained._asdict(),
    )


def _score_device_name(job: Job, device: torch.device) -> str:
    on_gpu = device.type == "cuda" and job.estimator is None
    return torch.cuda.get_device_name(device) if on_gpu else "cpu"


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """How far a study has got.

    Attributes:
        job: the one that runs.
        done: jobs finished, those of earlier processes among them.
        total: jobs of the study.
        epoch: of the job, counted from 1; 0 before the first.
        epochs: of the job.
        remaining_s: estimate for what is left of the study in this process.
    """

    job: Job
    done: int
    total: int
    epoch: int
    epochs: int
    remaining_s: float


class StudyCallback(Protocol):
    """Who is told how a study goes on; the command line prints a line for each."""

    def job_started(self, standing: StudyProgress) -> None:
        """A job begins, or goes on after a kill."""

    def epoch_done(self, standing: StudyProgress, row: Mapping[str, Any]) -> None:
        """An epoch ended; `row` is its line of metrics.jsonl."""

    def job_done(self, standing: StudyProgress, result: Result) -> None:
        """A job was scored."""

    def job_failed(self, standing: StudyProgress, reason: str) -> None:
        """A job cannot go on; the others do."""


@dataclass(frozen=True)
class Progress:
    """What `run_study` leaves.

    Attributes:
        results: every finished job of the study, in its order.
        failed: id of a job -> why it cannot go on.
        waiting: jobs that are neither, because time was up, another process has them, or a job that they need is not
            done.
    """

    results: tuple[Result, ...]
    failed: Mapping[str, str]
    waiting: tuple[Job, ...]


class _TimeUp(Exception):
    """The budget is spent, and the job's last epoch is kept: the next start goes on after it."""


class _EtaMeter:
    """The training loop's reporter: turns epochs into standings, and ends a job when time is up."""

    def __init__(self, queue: "_Queue", job: Job) -> None:
        self._queue, self._job, self._images = queue, job, 0

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        self._images = images

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Steps are too small to tell of."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        share = row["epoch"] / self._job.run.epochs
        # Work an epoch, on average over the phases; a finished job counts exactly.
        self._queue.pace.guess(work(self._job.run, self._images) / self._job.run.epochs, row["seconds"])
        self._queue.watcher.epoch_done(self._queue.standing(self._job, row["epoch"], share), row)
        # The loop tells of an epoch once it is on disk. A job's last epoch is followed by its score alone.
        if row["epoch"] < self._job.run.epochs and self._queue.time_is_up():
            raise _TimeUp


class _Queue:
    def __init__(
        self, study: Study, folder: Path, images: StudyImages, watcher: StudyCallback, budget_s: float | None
    ) -> None:
        self._end = None if budget_s is None else time.monotonic() + budget_s
        self.study, self.folder, self.images, self.watcher = study, folder, images, watcher
        self.ledger = Ledger(folder / LEDGER)
        self.failed: dict[str, str] = {}
        done = self.ledger.read()
        # A study whose jobs are all done needs no image to be read.
        left = [job for job in study.jobs if job.id not in done]
        self.pace = EtaEstimator(images.device.type, len(images.parts(left[0]).train) if left else 0)
        for job in study.jobs:
            if job.id in done and done[job.id].device == _device_name(images):
                self.pace.learn(job, done[job.id])

    def time_is_up(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def standing(self, job: Job, epoch: int, share: float) -> StudyProgress:
        done = self.ledger.read()
        finished = [one for one in self.study.jobs if one.id in done]
        left = [one for one in self.study.jobs if one.id not in done and one.id not in self.failed and one != job]
        seconds = self.pace.seconds(left) + (1 - share) * self.pace.seconds([job])
        return StudyProgress(
            job=job,
            done=len(finished),
            total=len(self.study.jobs),
            epoch=epoch,
            epochs=job.run.epochs,
            remaining_s=seconds,
        )

    def do(self, job: Job) -> None:
        """Run one job, unless it is done, another process has it, or it needs one that is not done."""
        done = self.ledger.read()
        if job.id in done:
            discard_state(self.folder / job.id)  # a kill may have fallen between the two
            return
        if not done.keys() >= set(job.after):
            return
        with claim(self.folder / job.id) as mine:
            # Another process may have finished it just now.
            if not mine or job.id in self.ledger.read():
                return
            self.watcher.job_started(self.standing(job, 0, 0.0))
            try:
                result = run_job(job, self.images.parts(job), self.folder / job.id, _EtaMeter(self, job))
            except _TimeUp:
                return
            except (ConfigError, TrainingError) as error:
                self.failed[job.id] = str(error)
                self.watcher.job_failed(self.standing(job, 0, 1.0), str(error))
                return
            self.ledger.append(result)
            discard_state(self.folder / job.id)
            self.pace.learn(job, result)
            self.watcher.job_done(self.standing(job, job.run.epochs, 1.0), result)


def run_study(
    study: Study, folder: Path, images: StudyImages, watcher: StudyCallback, *, budget_s: float | None = None
) -> Progress:
    """Run the jobs that are not done yet.

    Several processes may run the same study at once, one a GPU: each takes the jobs that no other one has.

    Args:
        study: its jobs are run in their order.
        folder: of the study; each job gets one inside it, and results.jsonl lies beside them.
        images: of the data set.
        watcher: who is told.
        budget_s: no job or epoch is started after so many seconds; None is no limit.

    Raises:
        DataError: if the data set lacks what a job needs.
        TrainingError: if results cannot be written. A run that fails or does not fit by itself stops no other job.
    """
    queue = _Queue(study, folder, images, watcher, budget_s)
    for job in study.jobs:
        if queue.time_is_up():
            log.info("the budget of %.0f s is spent", budget_s)
            break
        queue.do(job)
    done = queue.ledger.read()
    return Progress(
        results=tuple(done[job.id] for job in study.jobs if job.id in done),
        failed=dict(queue.failed),
        waiting=tuple(job for job in study.jobs if job.id not in done and job.id not in queue.failed),
    )


def _device_name(images: StudyImages) -> str:
    import torch

    device = images.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
