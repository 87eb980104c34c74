"""The queue: jobs one after another, each done once however often the process is killed and started again."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.study.jobs import Job, Study
from ddamfn.study.pace import Pace, work
from ddamfn.study.pictures import Pictures
from ddamfn.study.results import LEDGER, Ledger, Result, claim
from ddamfn.study.scoring import discard_state, run_job

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Standing:
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


class Watcher(Protocol):
    """Who is told how a study goes on; the command line prints a line for each."""

    def job_started(self, standing: Standing) -> None:
        """A job begins, or goes on after a kill."""

    def epoch_done(self, standing: Standing, row: Mapping[str, Any]) -> None:
        """An epoch ended; `row` is its line of metrics.jsonl."""

    def job_done(self, standing: Standing, result: Result) -> None:
        """A job was scored."""

    def job_failed(self, standing: Standing, reason: str) -> None:
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


class _Meter:
    """The training loop's reporter: turns epochs into standings, and ends a job when time is up."""

    def __init__(self, queue: "_Queue", job: Job) -> None:
        self._queue, self._job, self._pictures = queue, job, 0

    def epoch_started(self, epoch: int, epochs: int, pictures: int, done: int, side_px: int) -> None:
        self._pictures = pictures

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Steps are too small to tell of."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        share = row["epoch"] / self._job.run.epochs
        # Work an epoch, on average over the phases; a finished job counts exactly.
        self._queue.pace.guess(work(self._job.run, self._pictures) / self._job.run.epochs, row["seconds"])
        self._queue.watcher.epoch_done(self._queue.standing(self._job, row["epoch"], share), row)
        # The loop tells of an epoch once it is on disk. A job's last epoch is followed by its score alone.
        if row["epoch"] < self._job.run.epochs and self._queue.time_is_up():
            raise _TimeUp


class _Queue:
    def __init__(
        self, study: Study, folder: Path, pictures: Pictures, watcher: Watcher, budget_s: float | None
    ) -> None:
        self._end = None if budget_s is None else time.monotonic() + budget_s
        self.study, self.folder, self.pictures, self.watcher = study, folder, pictures, watcher
        self.ledger = Ledger(folder / LEDGER)
        self.failed: dict[str, str] = {}
        done = self.ledger.read()
        # A study whose jobs are all done needs no picture to be read.
        left = [job for job in study.jobs if job.id not in done]
        self.pace = Pace(pictures.device.type, len(pictures.parts(left[0]).train) if left else 0)
        for job in study.jobs:
            if job.id in done and done[job.id].device == _device_name(pictures):
                self.pace.learn(job, done[job.id])

    def time_is_up(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def standing(self, job: Job, epoch: int, share: float) -> Standing:
        done = self.ledger.read()
        finished = [one for one in self.study.jobs if one.id in done]
        left = [one for one in self.study.jobs if one.id not in done and one.id not in self.failed and one != job]
        seconds = self.pace.seconds(left) + (1 - share) * self.pace.seconds([job])
        return Standing(
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
                result = run_job(job, self.pictures.parts(job), self.folder / job.id, _Meter(self, job))
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
    study: Study, folder: Path, pictures: Pictures, watcher: Watcher, *, budget_s: float | None = None
) -> Progress:
    """Run the jobs that are not done yet.

    Several processes may run the same study at once, one a GPU: each takes the jobs that no other one has.

    Args:
        study: its jobs are run in their order.
        folder: of the study; each job gets one inside it, and results.jsonl lies beside them.
        pictures: of the data set.
        watcher: who is told.
        budget_s: no job or epoch is started after so many seconds; None is no limit.

    Raises:
        DataError: if the data set lacks what a job needs.
        TrainingError: if results cannot be written. A run that fails or does not fit by itself stops no other job.
    """
    queue = _Queue(study, folder, pictures, watcher, budget_s)
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


def _device_name(pictures: Pictures) -> str:
    import torch

    device = pictures.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
