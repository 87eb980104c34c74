"""How long jobs take: their multiply-accumulates, at a stated rate until this study has measured its own."""

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType

import torch

from ddamfn.models import create_model
from ddamfn.models.complexity import count_macs
from ddamfn.study.jobs import Job
from ddamfn.study.results import Result
from ddamfn.train import Run

RATES = MappingProxyType({"cpu": 12e9, "cuda": 1.6e12})
"""Multiply-accumulates of forward passes a second while training.

CPU: DDAMFN on two AMD EPYC cores, 112 pictures/s at 48 px (EXPERIMENTS.md). CUDA: an assumption, 3,000 pictures/s of
DDAMFN at 112 px; the first finished job replaces it.
"""


_TEACHER = 0.25
"""A teacher's pass in passes of training, which are followed by the gradient: 448 pictures/s against 100 or so."""


def work(run: Run, pictures: int) -> float:
    """Multiply-accumulates of all forward passes of a run over so many training pictures.

    Teachers are taken for networks like the student.
    """
    passes = 1.0 if run.optimiser.sam_rho is None else 2.0
    if run.distillation is not None:
        asked = max(1, len(run.distillation.teachers))
        taught = _TEACHER * asked * (2 if run.distillation.mirrored else 1)
        passes += taught / run.epochs if run.distillation.kept_by else taught
    options = tuple(sorted(run.model.options.items()))
    macs = sum(phase.epochs * _macs(run.model.name, options, phase.side_px) for phase in run.phases)
    return float(passes * macs * pictures)


@lru_cache(maxsize=256)
def _macs(name: str, options: tuple[tuple[str, object], ...], side_px: int) -> int:
    with torch.device("meta"):
        network = create_model(name, num_classes=7, **dict(options))
    return count_macs(network, (side_px, side_px))


class Pace:
    """Seconds that jobs will take.

    Args:
        device: "cpu" or "cuda".
        pictures: that one job trains on.
    """

    def __init__(self, device: str, pictures: int) -> None:
        self._rate, self._pictures = RATES.get(device, RATES["cpu"]), pictures
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
        return self._pictures if job.pictures is None else min(self._pictures, job.pictures)
