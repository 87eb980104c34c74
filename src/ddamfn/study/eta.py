"""Estimates of how long the jobs of a study take."""

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType

import torch

from ddamfn.models import create_network
from ddamfn.models.complexity import count_macs
from ddamfn.objectives import LiveDistillation, SelfDistillation
from ddamfn.study.jobs import Job, Result
from ddamfn.train import Run

RATES = MappingProxyType({"cpu": 12e9, "cuda": 1.6e12})
"""Multiply-accumulates of forward passes per second while training.

CPU: DDAMFN on two AMD EPYC cores, 112 images/s at 48 px (EXPERIMENTS.md). CUDA: an assumption, 3,000 images/s of
DDAMFN at 112 px; the first finished job replaces it.
"""

_TEACHER = 0.25
"""A teacher's forward pass, as a share of a training pass with its gradient: about 100 of 448 images/s."""


def work(run: Run, images: int) -> float:
    """Count the multiply-accumulates of a run's forward passes; teachers count as networks like the student."""
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
        network = create_network(name, num_classes=7, **dict(options))
    return count_macs(network, (side_px, side_px))


class EtaEstimator:
    """Estimate the seconds that jobs take, given `images` training images per job."""

    def __init__(self, device: str, images: int) -> None:
        self._rate, self._images = RATES.get(device, RATES["cpu"]), images
        self._work, self._seconds = 0.0, 0.0

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second: measured once a job is finished, until then the latest estimate."""
        return self._work / self._seconds if self._seconds else self._rate

    def observe_epoch(self, done: float, seconds: float) -> None:
        """Use an epoch's rate until a job is finished."""
        self._rate = done / seconds

    def observe_job(self, job: Job, result: Result) -> None:
        """Add a finished job to the measured rate; estimators have no epochs and are left out."""
        if job.estimator is None:
            self._work += work(job.run, result.n_train)
            self._seconds += result.seconds

    def seconds(self, jobs: Sequence[Job]) -> float:
        """Estimate the seconds of sequential jobs; estimators count as 0."""
        return sum(work(job.run, self._trained(job)) for job in jobs if job.estimator is None) / self.rate

    def _trained(self, job: Job) -> int:
        return self._images if job.images is None else min(self._images, job.images)
