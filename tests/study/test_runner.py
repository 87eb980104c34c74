"""The scheduler: which jobs it starts when, and how often it hashes runs and reads the ledger for that."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddamfn.study import jobs
from ddamfn.study.jobs import Job, Ledger, Plan, Result, Study, claim
from ddamfn.study.runner import Executor, StudyOutcome, StudyProgress, run_study
from ddamfn.study.tables.crossval import crossval
from ddamfn.study.tables.seeds import seeds
from ddamfn.train import TrainingCallback, recipe

IMAGES: Any = SimpleNamespace(device=torch.device("cpu"), parts=lambda job: SimpleNamespace(train=range(100)))


def result(job: Job) -> Result:
    return Result(
        job=job.id, row=job.row, seed=job.seed, fold=None, n_train=100, n_valid=10, n=10, correct=9, accuracy=0.9,
        ci95=(0.6, 1.0), mean_class_accuracy=0.9, macro_f1=0.9, valid_accuracy=0.9, epoch=1, epochs=2, parameters=1,
        seconds=1.0, images_per_second=200.0, test="faces", rule="majority", device="cpu", commit=None,
        finished="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


class Instant(Executor):
    """Finishes jobs at once, the last submitted first, after two epochs each."""

    def __init__(self, slots: int = 1) -> None:
        self._slots, self.running, self.log = slots, list[tuple[Job, TrainingCallback]](), list[str]()

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, job: Job, callback: TrainingCallback) -> None:
        self.running.append((job, callback))
        self.log.append(f"submit {job.seed}")

    def wait(self) -> tuple[Job, Result | str | None]:
        job, callback = self.running.pop()
        for epoch in (1, 2):
            callback.epoch_started(epoch, 2, 100, 0, 112)
            callback.epoch_done({"epoch": epoch, "seconds": 1.0})
        self.log.append(f"end {job.seed}")
        return job, result(job)


def run(study: Study, folder: Path, executor: Executor) -> tuple[StudyOutcome, list[StudyProgress]]:
    told: list[StudyProgress] = []
    return run_study(study, folder, IMAGES, told.append, executor), told


def test_a_job_hashes_its_run_once_and_reads_the_ledger_once_to_claim_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    for name in ("sha256_bytes", "read_json_lines"):
        original = getattr(jobs, name)
        monkeypatch.setattr(jobs, name, lambda value, name=name, do=original: calls.update([name]) or do(value))
    study = crossval(recipe("ddamfn_quick"), Plan(data="faces", dataset="f"), folds=5, grouped=False)
    outcome, told = run(study, tmp_path, Instant())
    assert [one.job for one in outcome.results] == [job.id for job in study.jobs]
    # Started, two epochs, scored.
    assert len(told) == 5 * 4
    assert calls == {"sha256_bytes": 5, "read_json_lines": 1 + 5}
    # Once more, in another process: nothing to claim.
    again = replace(study, jobs=tuple(replace(job) for job in study.jobs))
    calls.clear()
    assert run(again, tmp_path, Instant())[0].results == outcome.results
    assert calls == {"sha256_bytes": 5, "read_json_lines": 1}


def test_progress_counts_jobs_and_time_left(tmp_path: Path) -> None:
    study = crossval(recipe("ddamfn_quick"), Plan(data="faces", dataset="f"), folds=2, grouped=False)
    _, told = run(study, tmp_path, Instant())
    assert [one.done for one in told] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert [one.total for one in told] == [2] * 8
    left = [one.remaining_s for one in told]
    assert left[-1] == 0
    assert left[3:] == sorted(left[3:], reverse=True)


def test_as_many_jobs_run_at_once_as_there_are_slots_and_a_second_round_waits(tmp_path: Path) -> None:
    study = seeds(
        recipe("ddamfn_quick"),
        Plan(data="faces", dataset="f", seeds=2),
        runs=tmp_path,
        again={"optimizer.lr": 1e-4},
    )
    executor = Instant(slots=3)
    outcome, _ = run(study, tmp_path, executor)
    assert len(outcome.results) == 4
    assert executor.log == [f"{what} {seed}" for what, seed in (
        ("submit", 0), ("submit", 1), ("end", 1), ("end", 0), ("submit", 0), ("submit", 1), ("end", 1), ("end", 0)
    )]  # fmt: skip


def test_jobs_of_another_process_are_left_to_it(tmp_path: Path) -> None:
    study = crossval(recipe("ddamfn_quick"), Plan(data="faces", dataset="f"), folds=3, grouped=False)
    taken, finished, own = study.jobs

    class Meanwhile(Instant):
        def submit(self, job: Job, callback: TrainingCallback) -> None:
            assert job is own
            super().submit(job, callback)

    ledger = Ledger(tmp_path)
    with claim(tmp_path / taken.id):
        # It finishes another job after this process has read the ledger.
        original = IMAGES.parts
        IMAGES.parts = lambda job: ledger.append(result(finished)) or original(job)
        try:
            outcome, _ = run(study, tmp_path, Meanwhile())
        finally:
            IMAGES.parts = original
    assert outcome.waiting == (taken,)
    assert {one.job for one in outcome.results} == {finished.id, own.id}


def test_a_second_round_goes_on_when_another_process_has_done_the_rest_of_the_first(tmp_path: Path) -> None:
    study = seeds(
        recipe("ddamfn_quick"),
        Plan(data="faces", dataset="f", seeds=2),
        runs=tmp_path,
        again={"optimizer.lr": 1e-4},
    )
    first, ledger = study.jobs[0], Ledger(tmp_path)

    class Meanwhile(Instant):
        def wait(self) -> tuple[Job, Result | str | None]:
            if first.id not in ledger.results:
                ledger.append(result(first))
            return super().wait()

    with claim(tmp_path / first.id):
        outcome, _ = run(study, tmp_path, Meanwhile())
    assert len(outcome.results) == 4
    assert not outcome.waiting
