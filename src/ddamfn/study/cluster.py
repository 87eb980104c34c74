"""A study's jobs over many machines, through a Ray cluster that somebody runs already. Needs the extra "ray".

Ray does the scheduling: a job takes one GPU where the study runs on CUDA, else one CPU core. The data set, the folder
of the study and the cache of prepared sets must lie on a file system that all machines see.
"""

import logging
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ddamfn.errors import DdamfnError, MissingExtra, UsageError
from ddamfn.study.images import StudyImages
from ddamfn.study.jobs import LEDGER, Fold, Job, Ledger, Result, Study, claim
from ddamfn.study.runner import EtaEstimator, Progress, StudyCallback, StudyProgress, discard_state, run_job
from ddamfn.train import run_from_dict
from ddamfn.train.config import to_dict

_BUSY = "another process has this job"
_SHARED: dict[tuple[str, str | None, str], StudyImages] = {}
"""A worker's data sets: Ray keeps its processes, so that later jobs find the tensors of earlier ones."""


class _Silent:
    """A reporter for a worker, whose terminal nobody sees."""

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Nothing is shown."""

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Nothing is shown."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Nothing is shown."""


def run_on_ray(
    study: Study,
    folder: Path,
    images: StudyImages,
    watcher: StudyCallback,
    *,
    address: str,
    kind: str | None = None,
    budget_s: float | None = None,
) -> Progress:
    """Run the jobs that are not done yet on a Ray cluster.

    Args:
        study: its jobs are started in their order, as many at once as the cluster has room for.
        folder: of the study.
        images: of the data set; made ready here, so that no two workers prepare the same.
        watcher: told of jobs; epochs are in the run folders alone.
        address: of the cluster, as `ray.init` takes it, such as `auto`.
        kind: layout of the data set, where it is not recognized.
        budget_s: no job is started after so many seconds.

    Raises:
        MissingExtra: if Ray is not installed.
        UsageError: if no cluster answers, or it has no room for a job.
    """
    ray = _connect(address)
    start, device, ledger = time.monotonic(), images.device.type, Ledger(folder / LEDGER)
    slots = int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))
    if slots < 1:
        raise UsageError(f"the Ray cluster {address} has no {'GPU' if device == 'cuda' else 'CPU'} to run a job on")
    needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    task = ray.remote(**needs, max_retries=0)(_work)
    waiting = [job for job in study.jobs if job.id not in ledger.read()]
    pace = EtaEstimator(device, len(images.parts(waiting[0]).train) if waiting else 0)
    running: dict[Any, Job] = {}
    failed: dict[str, str] = {}

    def standing(job: Job, epoch: int) -> StudyProgress:
        left = [*waiting, *running.values()]
        done = len(study.jobs) - len(left) - len(failed)
        return StudyProgress(
            job=job, done=done, total=len(study.jobs), epoch=epoch, epochs=job.run.epochs,
            remaining_s=pace.seconds(left) / slots,
        )  # fmt: skip

    while waiting or running:
        finished = ledger.read().keys()
        while len(running) < slots and (budget_s is None or time.monotonic() - start < budget_s):
            job = next((job for job in waiting if finished >= set(job.after)), None)
            if job is None:
                break
            waiting.remove(job)
            running[task.remote(_plain(job), str(folder.resolve()), kind, device)] = job
            watcher.job_started(standing(job, 0))
        if not running:
            break
        (ready,), _ = ray.wait(list(running), num_returns=1)
        job = running.pop(ready)
        try:
            answer = ray.get(ready)
        except ray.exceptions.RayError as error:  # a machine was lost, or a worker was killed for its memory
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            answer = f"its worker was lost ({reason}); the same command runs it again"
        if isinstance(answer, Result):
            ledger.append(answer)
            discard_state(folder / job.id)
            pace.learn(job, answer)
            watcher.job_done(standing(job, job.run.epochs), answer)
        elif answer != _BUSY:
            failed[job.id] = answer
            watcher.job_failed(standing(job, 0), answer)
    done = ledger.read()
    return Progress(
        results=tuple(done[job.id] for job in study.jobs if job.id in done),
        failed=failed,
        waiting=tuple(job for job in study.jobs if job.id not in done and job.id not in failed),
    )


def _connect(address: str) -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "--ray") from error
    try:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {str(error).splitlines()[0]}") from error
    return ray


def _plain(job: Job) -> dict[str, Any]:
    """A job as plain values: its run holds read-only mappings, which cannot be sent to another process."""
    fold = None if job.fold is None else to_dict(job.fold)
    return {**{f.name: getattr(job, f.name) for f in fields(job)}, "run": to_dict(job.run), "fold": fold}


def _work(plain: dict[str, Any], folder: str, kind: str | None, device: str) -> Result | str:
    """Run one job in a worker; an error that it may raise comes back as its message."""
    fold = None if plain["fold"] is None else Fold(**plain["fold"])
    job = Job(**{**plain, "run": run_from_dict(plain["run"]), "fold": fold})
    key = (job.data, kind, device)
    try:
        if key not in _SHARED:
            _SHARED[key] = StudyImages(Path(job.data), torch.device(device), kind=kind)
        place = Path(folder) / job.id
        with claim(place) as mine:
            return run_job(job, _SHARED[key].parts(job), place, _Silent()) if mine else _BUSY
    except DdamfnError as error:
        return " ".join(str(error).split())
