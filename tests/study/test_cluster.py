"""A study over a local Ray cluster of two workers."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddamfn.cli import main

Arguments = Callable[..., list[str]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of this machine alone, and its address."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray lets its workers stand back behind everything else, which on a busy machine is for minutes.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    context = ray.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )

    def who() -> int:
        time.sleep(0.2)
        return os.getpid()

    try:
        # Once both workers have begun, the first two jobs do not wait for one another.
        task = ray.remote(num_cpus=1)(who)
        while len(set(ray.get([task.remote(), task.remote()]))) < 2:
            pass
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


# On a busy machine it is the starting of Ray's processes that takes minutes, not the study.
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_workers_share_a_study_and_do_each_job_once(
    cluster: str, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments("ablation", "--table", "ddan", "--seeds", "2"), "--ray", cluster]
    assert main(words) == 0
    ledger = tmp_path / "runs" / "ablation-ddan" / "results.jsonl"
    done = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert sorted((row["row"], row["seed"]) for row in done) == [("ddamfn", 0), ("ddamfn", 1), ("mfn", 0), ("mfn", 1)]
    # The second job begins before the first one ends.
    lines = [line for line in capsys.readouterr().err.splitlines() if "jobs done," in line]
    assert all(line.startswith("ddamfn: [0/4") and "done: " not in line for line in lines[:2])
    assert "4 of 4 jobs done" in (tmp_path / "report" / "report.md").read_text()
    # Without Ray the same study has nothing left to do.
    assert main(words[:-2]) == 0
    assert "jobs done," not in capsys.readouterr().err


class _Lost(Exception):
    """In place of Ray's own."""


class _Future:
    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.work, self.arguments = work, arguments


class _RayThatLoses:
    """Runs jobs in this process, and loses the workers of the row mfn."""

    exceptions = SimpleNamespace(RayError=_Lost)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        return lambda work: SimpleNamespace(remote=lambda *arguments: _Future(work, arguments))

    def wait(self, futures: list[_Future], num_returns: int) -> tuple[list[_Future], list[_Future]]:
        return futures[:num_returns], futures[num_returns:]

    def get(self, future: _Future) -> Any:
        if future.arguments[0]["row"] == "mfn":
            raise _Lost("a long trace\nthe node ran out of memory")
        return future.work(*future.arguments)


def test_a_lost_worker_costs_its_job_alone(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ddamfn.study.cluster.connect", lambda _: _RayThatLoses())
    assert main([*arguments("ablation", "--table", "ddan", "--seeds", "1"), "--ray", "anywhere"]) == 1
    error = capsys.readouterr().err
    assert "failed: its worker was lost (the node ran out of memory); the same command runs it again" in error
    (line,) = (tmp_path / "runs" / "ablation-ddan" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == "ddamfn"


def test_a_second_round_waits_for_the_first(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddamfn.study.cluster.connect", lambda _: _RayThatLoses())
    words = [*arguments("seeds", "--seeds", "1"), "--again", "optimizer.lr=0.0005", "--ray", "anywhere"]
    assert main(words) == 0
    lines = (tmp_path / "runs" / "seeds-ddamfn_quick" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == ["ddamfn_quick", "ddamfn_quick-again"]
