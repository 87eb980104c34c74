"""A study over a local Ray cluster of two workers."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddamfn.cli import main

ray = pytest.importorskip("ray", reason="needs the extra ray")

Arguments = Callable[..., list[str]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of this machine alone, and its address."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )
    yield context.address_info["gcs_address"]
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
    workers = {(ledger.parent / row["job"] / ".claim").read_text() for row in done}
    assert len(workers) == 2
    assert "4 of 4 jobs done" in (tmp_path / "report" / "report.md").read_text()
    # Without Ray the same study has nothing left to do.
    capsys.readouterr()
    assert main(words[:-2]) == 0
    assert "jobs done]" not in capsys.readouterr().err
