"""Run a study's jobs on a running Ray cluster, one GPU or CPU core per job. Needs the extra "ray".

All machines must see the data set, the study's folder and the cache of prepared sets on a shared file system.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ddamfn.distributed.cluster import connect
from ddamfn.errors import DdamfnError, UsageError
from ddamfn.study.images import StudyImages
from ddamfn.study.jobs import Fold, Job, Result
from ddamfn.study.runner import SilentCallback, run_job
from ddamfn.train import TrainingCallback, run_from_dict
from ddamfn.train.config import to_dict

_IMAGES: dict[tuple[str, str | None, str], StudyImages] = {}
"""A worker's data sets; Ray reuses its processes, so later jobs find the tensors of earlier ones."""


class RayExecutor:
    """Run as many jobs at once as a Ray cluster has room for; only the run folders record their epochs."""

    def __init__(self, address: str, folder: Path, device: str, kind: str | None) -> None:
        self._ray = connect(address)
        unit = "GPU" if device == "cuda" else "CPU"
        self.slots = int(self._ray.cluster_resources().get(unit, 0))
        if self.slots < 1:
            raise UsageError(f"the Ray cluster {address} has no {unit} to run a job on")
        self._task = self._ray.remote(**{f"num_{unit.lower()}s": 1}, max_retries=0)(_work)
        self._place = (str(folder.resolve()), kind, device)
        self._running: dict[Any, Job] = {}

    def submit(self, job: Job, callback: TrainingCallback) -> None:
        """Start a job on the cluster."""
        self._running[self._task.remote(_plain(job), *self._place)] = job

    def wait(self) -> tuple[Job, Result | str | None]:
        """Wait for the next job to end."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(ready)
        try:
            return job, self._ray.get(ready)
        except self._ray.exceptions.RayError as error:  # a machine was lost, or a worker was killed for its memory
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            return job, f"its worker was lost ({reason}); the same command runs it again"


def _plain(job: Job) -> dict[str, Any]:
    """Return a job as plain values: its run holds read-only mappings, which cannot be pickled."""
    fold = None if job.fold is None else to_dict(job.fold)
    return {**{f.name: getattr(job, f.name) for f in fields(job)}, "run": to_dict(job.run), "fold": fold}


def _work(plain: dict[str, Any], folder: str, kind: str | None, device: str) -> Result | str:
    """Run one job in a worker; return the message of an expected error."""
    fold = None if plain["fold"] is None else Fold(**plain["fold"])
    job = Job(**{**plain, "run": run_from_dict(plain["run"]), "fold": fold})
    key = (job.data, kind, device)
    try:
        if key not in _IMAGES:
            _IMAGES[key] = StudyImages(Path(job.data), torch.device(device), kind=kind)
        return run_job(job, _IMAGES[key].parts(job), Path(folder) / job.id, SilentCallback())
    except DdamfnError as error:
        return " ".join(str(error).split())
