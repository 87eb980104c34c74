"""Runs a study: one loop starts, trains, scores, records and reports its jobs."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.evaluate import score
from ddamfn.files import write_bytes
from ddamfn.models import create_network
from ddamfn.models.complexity import count_parameters
from ddamfn.study.classic import fit_estimator
from ddamfn.study.eta import EtaEstimator, work
from ddamfn.study.images import Parts, StudyImages
from ddamfn.study.jobs import Job, Ledger, Result, Study, claim, writing
from ddamfn.train import TrainingCallback, fit, run_folder
from ddamfn.train.run_folder import RunFolder, load_weights_file
from ddamfn.train.step import evaluate_split

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.npz"


class JobPredictions(NamedTuple):
    """A job's predictions for the images that it was scored on."""

    keys: NDArray[np.str_]  # N names
    labels: NDArray[np.int64]  # (N,) int64 class indices
    logits: NDArray[np.float32]  # (N, K) float32

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, bool (N,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


def load_predictions(folder: Path) -> JobPredictions:
    """Read a finished job's predictions."""
    path = folder / PREDICTIONS
    try:
        with np.load(path) as file:
            return JobPredictions(*(file[name] for name in JobPredictions._fields))
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); delete {folder} to run the job again") from error


def run_job(job: Job, parts: Parts, folder: Path, callback: TrainingCallback) -> Result:
    """Train or resume a job and score it.

    The test part is read once, after training, by the network that was best on validation: it selects no epoch,
    setting or seed.
    """
    logits, trained = _fit(job, job.estimator, parts) if job.estimator else _train(job, parts, folder, callback)
    labels = parts.test.targets.argmax(dim=1).cpu().numpy()
    content = BytesIO()
    np.savez_compressed(content, **JobPredictions(np.array(parts.test.keys), labels, logits)._asdict())
    with writing(folder / PREDICTIONS):
        write_bytes(folder / PREDICTIONS, content.getbuffer())
    scores = score(logits, parts.test.targets.cpu().numpy(), parts.test.classes)
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
        commit=run_folder.commit(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **trained,
    )


def _train(
    job: Job, parts: Parts, folder: Path, callback: TrainingCallback
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Train the job's network; return its test logits and the training's part of the result."""
    run, place, test = job.run, RunFolder(folder), parts.test
    if place.result.exists() and not place.state.exists():  # finished, and its line of the ledger was lost
        best = json.loads(place.result.read_text(encoding="utf-8"))["best"]
    else:
        if run.compile:
            # Other jobs' code counts towards PyTorch's limit of versions of a function, past which it never compiles.
            torch.compiler.reset()
        best = fit(run, parts.train, parts.valid, folder, callback, resume=True).best
    network = create_network(run.model.name, num_classes=len(test.classes), **run.model.options)
    network.load_state_dict(load_weights_file(place.best))
    network.to(test.images.device)
    phase, rows = run.phases[-1], place.rows()
    seconds = sum(row["seconds"] for row in rows)
    logits = evaluate_split(network, test.resized(phase.side_px), run.data, phase.batch_size).logits.numpy()
    return logits, {
        "device": _device_name(test.images.device),
        "parameters": count_parameters(network),
        "valid_accuracy": best["valid"]["accuracy"],
        "epoch": best["epoch"],
        "epochs": run.epochs,
        "seconds": seconds,
        "images_per_second": sum(row["train"]["n"] for row in rows) / seconds,
        "head_means": tuple(best["head_means"]),
        "head_difference": best["head_difference"],
        "max_attention_mean": best["max_attention_mean"],
    }


def _fit(job: Job, estimator: str, parts: Parts) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Fit the job's estimator; return its test logits and the fit's part of the result."""
    valid, logits, seconds = fit_estimator(estimator, job.seed, parts, job.run.phases[-1].side_px)
    return logits, {
        "device": "cpu",
        "parameters": 0,
        "valid_accuracy": float((valid.argmax(axis=1) == parts.valid.targets.argmax(dim=1).cpu().numpy()).mean()),
        "epoch": 0,
        "epochs": 0,
        "seconds": seconds,
        "images_per_second": len(parts.train) / seconds,
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class SilentCallback:
    """A callback that ignores all training events."""

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Ignore it."""

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Ignore it."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Ignore it."""


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """A study's progress when a job begins, ends an epoch, is scored or fails."""

    job: Job  # the running one
    done: int  # jobs finished, including by earlier processes
    total: int  # jobs of the study
    remaining_s: float  # estimate for the rest of the study in this process
    row: Mapping[str, Any] | None = None  # metrics.jsonl line of the ended epoch
    result: Result | None = None  # of the scored job
    error: str | None = None  # why the job failed; other jobs go on


@dataclass(frozen=True)
class StudyOutcome:
    """What `run_study` returns."""

    results: tuple[Result, ...]  # every finished job, in the study's order
    failed: Mapping[str, str]  # job id -> reason
    waiting: tuple[Job, ...]  # out of time, claimed by another process, or blocked by an unfinished job


class Executor(Protocol):
    """Where jobs run."""

    @property
    def slots(self) -> int:
        """How many jobs run at once."""

    def submit(self, job: Job, callback: TrainingCallback) -> None:
        """Accept a job; a remote executor does not call back."""

    def wait(self) -> tuple[Job, Result | str | None]:
        """Wait for a submitted job to end; return its result, an error's message, or None if it was interrupted."""


class LocalExecutor:
    """Run one job at a time in this process."""

    slots = 1

    def __init__(self, folder: Path, images: StudyImages) -> None:
        self._folder, self._images = folder, images
        self._submitted: list[tuple[Job, TrainingCallback]] = []

    def submit(self, job: Job, callback: TrainingCallback) -> None:
        """Accept a job, which runs in `wait`."""
        self._submitted.append((job, callback))

    def wait(self) -> tuple[Job, Result | str | None]:
        """Run the submitted job."""
        job, callback = self._submitted.pop()
        try:
            return job, run_job(job, self._images.parts(job), self._folder / job.id, callback)
        except _TimeUp:
            return job, None
        except (ConfigError, TrainingError) as error:
            return job, str(error)


class _TimeUp(Exception):
    """The budget is spent and the job's last epoch is saved; the next start resumes after it."""


class _EpochCallback(SilentCallback):
    """Reports a job's epochs as study progress, and stops the job when time is up."""

    def __init__(self, scheduler: "_Scheduler", job: Job) -> None:
        self._scheduler, self._job, self._images = scheduler, job, 0

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        self._images = images

    def epoch_done(self, row: dict[str, Any]) -> None:
        self._scheduler.observe_epoch(self._job, self._images, row["seconds"])
        self._scheduler.tell(self._job, row["epoch"], row=row)
        # The loop reports an epoch once it is on disk. A job's last epoch is followed by its score alone.
        if row["epoch"] < self._job.run.epochs and self._scheduler.time_is_up():
            raise _TimeUp


class _Scheduler:
    def __init__(
        self,
        study: Study,
        folder: Path,
        images: StudyImages,
        callback: Callable[[StudyProgress], None],
        executor: Executor,
        budget_s: float | None,
    ) -> None:
        self._end = None if budget_s is None else time.monotonic() + budget_s
        self._study, self._folder, self._executor, self._callback = study, folder, executor, callback
        self._ledger = Ledger(folder)
        self._failed: dict[str, str] = {}
        self._claims: dict[str, ExitStack] = {}
        self._pending = [job for job in study.jobs if job.id not in self._ledger.results]
        # A study whose jobs are all done reads no image.
        n_train = len(images.parts(self._pending[0]).train) if self._pending else 0
        self._eta = EtaEstimator(images.device.type, n_train)
        for job in study.jobs:
            result = self._ledger.results.get(job.id)
            if result is not None:
                discard_state(folder / job.id)  # a kill may have fallen between result and discarding
                if result.device == _device_name(images.device):
                    self._eta.observe_job(job, result)

    def run(self) -> StudyOutcome:
        try:
            self._fill_slots()
            while self._claims:
                self._record(*self._executor.wait())
                self._fill_slots()
        finally:
            for claimed in self._claims.values():
                claimed.close()
        done = self._ledger.results
        return StudyOutcome(
            results=tuple(done[job.id] for job in self._study.jobs if job.id in done),
            failed=self._failed,
            waiting=tuple(job for job in self._study.jobs if job.id not in done and job.id not in self._failed),
        )

    def time_is_up(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def tell(self, job: Job, epoch: int, **news: Any) -> None:
        """Report progress once a job has so many finished epochs (all, when it has ended)."""
        done = self._ledger.results.keys()
        ended = {*done, *self._failed, job.id}
        left = [one for one in self._study.jobs if one.id not in ended]
        seconds = self._eta.seconds(left) + (1 - epoch / job.run.epochs) * self._eta.seconds([job])
        self._callback(
            StudyProgress(
                job=job,
                done=sum(one.id in done for one in self._study.jobs),
                total=len(self._study.jobs),
                remaining_s=seconds / self._executor.slots,
                **news,
            )
        )

    def observe_epoch(self, job: Job, images: int, seconds: float) -> None:
        """Use an epoch for the estimate, as if all phases' epochs were equal; a finished job counts exactly."""
        self._eta.observe_epoch(work(job.run, images) / job.run.epochs, seconds)

    def _fill_slots(self) -> None:
        """Start jobs in the study's order until the executor is full, time is up, or the rest wait for others."""
        while len(self._claims) < self._executor.slots:
            job = self._next_ready()
            if job is None and self._pending:
                self._ledger.refresh()  # another process may have finished what the pending jobs need
                job = self._next_ready()
            if job is None:
                return
            if self.time_is_up():
                log.info("the budget is spent")
                return
            self._pending.remove(job)
            self._start(job)

    def _next_ready(self) -> Job | None:
        return next((job for job in self._pending if self._ledger.results.keys() >= set(job.after)), None)

    def _start(self, job: Job) -> None:
        """Run one job, unless another process has claimed or just finished it."""
        with ExitStack() as stack:
            if not stack.enter_context(claim(self._folder / job.id)):
                return
            self._ledger.refresh()
            if job.id in self._ledger.results:
                return
            self.tell(job, 0)
            self._executor.submit(job, _EpochCallback(self, job))
            self._claims[job.id] = stack.pop_all()

    def _record(self, job: Job, ended: Result | str | None) -> None:
        with self._claims.pop(job.id):
            if isinstance(ended, str):
                self._failed[job.id] = ended
                self.tell(job, job.run.epochs, error=ended)
            elif ended is not None:
                self._ledger.append(ended)
                discard_state(self._folder / job.id)
                self._eta.observe_job(job, ended)
                self.tell(job, job.run.epochs, result=ended)


def discard_state(folder: Path) -> None:
    """Delete an unfinished job's resume state, several times its network's size; keep the network and records.

    Call it only once the result is in the ledger: without either, a killed study would train the job again.
    """
    RunFolder(folder).state.unlink(missing_ok=True)


def run_study(
    study: Study,
    folder: Path,
    images: StudyImages,
    callback: Callable[[StudyProgress], None],
    executor: Executor,
    *,
    budget_s: float | None = None,
) -> StudyOutcome:
    """Run the unfinished jobs; several processes may share a study, since each job is claimed by one of them.

    A failing job stops no other one. With a budget, no job is started after it has run out, nor an epoch in this
    process.
    """
    return _Scheduler(study, folder, images, callback, executor, budget_s).run()
