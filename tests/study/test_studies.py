"""Each study from its command line to its report, on synthetic faces."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.errors import TrainingError
from ddamfn.faces import Alignment
from ddamfn.files import read_json_lines
from ddamfn.models import create_network
from ddamfn.models.complexity import count_parameters
from ddamfn.preparation import prepare
from ddamfn.study.catalog import TABLES
from ddamfn.study.eta import work
from ddamfn.study.jobs import Job, Plan, Result
from ddamfn.study.runner import run_job
from ddamfn.study.tables.ablations import ablation
from ddamfn.train import override, recipe

Arguments = Callable[..., list[str]]


def results(runs: Path, study: str) -> list[dict[str, Any]]:
    return read_json_lines(runs / study / "results.jsonl")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_ablation_end_to_end(arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments("ablation", "--table", "ddan", "--seeds", "2")
    assert main(words) == 0
    done = results(tmp_path / "runs", "ablation-ddan")
    # Every row once before the first one twice.
    assert [(row["row"], row["seed"]) for row in done] == [("mfn", 0), ("ddamfn", 0), ("mfn", 1), ("ddamfn", 1)]
    assert all(row["n"] == 9 and row["n_train"] == 18 and row["n_valid"] == 9 for row in done)
    assert [row["parameters"] for row in done[:2]] == [
        count_parameters(create_network("mfn", num_classes=3)),
        count_parameters(create_network("ddamfn", num_classes=3, num_heads=2)),
    ]
    # What only an unfinished job needs is gone; the network stays.
    assert not list((tmp_path / "runs").rglob("state.pt"))
    assert len(list((tmp_path / "runs").rglob("best.safetensors"))) == 4
    report = tmp_path / "report"
    assert sorted(path.name for path in report.iterdir()) == ["chart.png", "jobs.csv", "report.md", "table.csv"]
    assert (report / "chart.png").read_bytes().startswith(b"\x89PNG")
    table = read_csv(report / "table.csv")
    assert [row["row"] for row in table] == ["without DDAN (MFN)", "DDAMFN, 2 heads"]
    assert [row["reported on RAF-DB"] for row in table] == ["90.32", "91.35"]
    assert [row["difference, points"] for row in table][1] == "reference"
    text = (report / "report.md").read_text()
    assert "4 of 4 jobs done" in text
    assert "differ by 1.03" in text
    assert re.search(r"noise is the choice of test images and of 2 seeds", text)
    assert str(tmp_path) not in text
    # Asked again, nothing is trained: no second line, the same report.
    capsys.readouterr()
    assert main(words) == 0
    assert "epoch" not in capsys.readouterr().err
    assert results(tmp_path / "runs", "ablation-ddan") == done
    assert (report / "report.md").read_text() == text


def test_a_cross_validation_end_to_end(arguments: Arguments, tmp_path: Path) -> None:
    assert main(arguments("crossval", "--folds", "2")) == 0
    done = results(tmp_path / "runs", "crossval-2")
    # Every image of the training split is scored once; a tenth of the others, at least one a class, selects.
    assert [(row["fold"], row["n"], row["n_train"], row["n_valid"]) for row in done] == [(0, 9, 6, 3), (1, 9, 6, 3)]
    folds = read_csv(tmp_path / "report" / "folds.csv")
    assert len({row["key"] for row in folds}) == 18
    assert all(row["key"].startswith("train") for row in folds)
    assert {(row["class"], row["fold"]) for row in folds} == {
        (name, fold) for name in ("neutral", "happiness", "surprise") for fold in ("1", "2")
    }
    text = (tmp_path / "report" / "report.md").read_text()
    assert "corrected resampled t, Nadeau & Bengio 2003, n_test / n_train = 1.5000" in text
    assert "90.635" in text
    assert "reported on RAF-DB |" not in text


def test_folds_by_subject_keep_everybody_on_one_side(arguments: Arguments, drawn: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subject"])
        for path in sorted((drawn / "train").glob("*/*.png")):
            writer.writerow([path, path.parent.name, f"S{int(path.stem) % 4}"])
    alignment = Alignment("ddamfn_frontal", side_px=32)
    prepared = prepare(open_dataset(table), tmp_path / "prepared", alignment, workers=1)
    words = arguments("crossval", "--folds", "2", "--groups", "subject")
    words[words.index("--data") + 1] = str(prepared.folder)
    assert main(words) == 0
    rows = read_csv(tmp_path / "report" / "folds.csv")
    people = [{row["subject"] for row in rows if row["fold"] == fold} for fold in ("1", "2")]
    assert "" not in people[0] | people[1]
    assert not people[0] & people[1]
    done = results(tmp_path / "runs", "crossval-2-subjects")
    assert sum(row["n"] for row in done) == len(rows) == 18
    assert all(row["n_train"] + row["n_valid"] + row["n"] == len(rows) for row in done)


def test_folds_by_subject_need_subjects(arguments: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("crossval", "--folds", "2", "--groups", "subject")) == 1
    assert "has no subject" in capsys.readouterr().err


def test_a_dry_run_lists_the_jobs_and_trains_none(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("ablation", "--table", "heads", "--seeds", "3", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 19
    assert lines[0].split()[0].startswith("heads0-mfn-seed0-")
    assert lines[-1].startswith("18 jobs, 0 done; about ")
    assert "assumed for cpu" in lines[-1]
    assert not (tmp_path / "runs").exists()


def test_the_estimate_of_a_job_knows_of_teachers_and_of_second_passes() -> None:
    run = recipe("ddamfn_ferplus_cpu")
    taught = override(run, {"distillation": {"teachers": ["one", "other"]}})
    assert work(taught, 10) == 1.5 * work(run, 10)
    assert work(override(taught, {"distillation.flip_average": True}), 10) == 2 * work(run, 10)
    assert work(override(taught, {"distillation": {"name": "cached", "teachers": ["one", "other"]}}), 10) == (
        1 + 0.5 / run.epochs
    ) * work(run, 10)
    assert work(override(run, {"optimizer.sam_rho": 0.05}), 10) == 2 * work(run, 10)


def test_a_budget_that_is_spent_starts_no_job(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("ablation", "--table", "ddan", "--seeds", "1", "--budget", "0")) == 0
    assert "2 jobs wait" in capsys.readouterr().err
    assert "0 of 2 jobs done" in (tmp_path / "report" / "report.md").read_text()


# The second job waits before its first step, so that the kill surely comes in the middle of the study.
KILLED = """
import signal, sys, torch
from pathlib import Path
from ddamfn.cli import main
from ddamfn.train import loop
torch.set_num_threads(1)
exec(sys.argv[1])
ledger, step = Path(sys.argv[2]), loop.train_step
def stepping(*arguments):
    if ledger.exists():
        ledger.with_name("waiting").touch()
        signal.pause()
    return step(*arguments)
loop.train_step = stepping
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="needs SIGKILL")
def test_a_study_killed_half_way_and_resumed_does_each_job_once(
    arguments: Arguments, thin_trunk: SimpleNamespace, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    words = arguments("ablation", "--table", "mixed-kernels", "--seeds", "2")
    ledger = tmp_path / "runs" / "ablation-mixed-kernels" / "results.jsonl"
    command = [sys.executable, "-c", KILLED, thin_trunk.code, str(ledger), *words]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        waiting = ledger.with_name("waiting")
        wait_until(lambda: waiting.exists() or process.poll() is not None, "the second job never began")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before = ledger.read_text().splitlines()
    assert len(before) == 1
    # The kill may also tear the line that is being written.
    with ledger.open("a") as file:
        file.write('{"job": "mixed-ker')
    finished = {json.loads(line)["job"] for line in before}
    trained = {job: (ledger.parent / job / "result.json").stat().st_mtime_ns for job in finished}
    assert main(words) == 0
    lines = [line for line in ledger.read_text().splitlines() if line.endswith("}")]
    assert lines[: len(before)] == before
    jobs = [json.loads(line)["job"] for line in lines]
    assert len(jobs) == len(set(jobs)) == 4
    # What was trained before the kill was not trained again.
    assert {job: (ledger.parent / job / "result.json").stat().st_mtime_ns for job in finished} == trained
    assert not list(ledger.parent.rglob("state.pt"))


def test_a_trained_job_whose_line_was_lost_is_scored_and_not_trained_again(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments("seeds", "--seeds", "1")
    assert main(words) == 0
    (before,) = results(tmp_path / "runs", "seeds-ddamfn_quick")
    (tmp_path / "runs" / "seeds-ddamfn_quick" / "results.jsonl").unlink()
    capsys.readouterr()
    assert main(words) == 0
    assert "epoch" not in capsys.readouterr().err
    (after,) = results(tmp_path / "runs", "seeds-ddamfn_quick")
    assert after | {"finished": before["finished"]} == before


def test_a_second_round_goes_on_from_the_first_and_learns_from_all_of_it(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments("seeds", "--seeds", "2"), "--again", "optimizer.lr=0.0005"]
    assert main([*words, "--dry-run"]) == 0
    assert "4 jobs, 0 done" in capsys.readouterr().out
    assert main(words) == 0
    done = results(tmp_path / "runs", "seeds-ddamfn_quick")
    rows = ["ddamfn_quick"] * 2 + ["ddamfn_quick-again"] * 2
    assert [(row["row"], row["seed"]) for row in done] == list(zip(rows, [0, 1, 0, 1], strict=True))
    folder = (tmp_path / "runs" / "seeds-ddamfn_quick").resolve()
    first = [str(folder / row["job"]) for row in done[:2]]
    for row, own in zip(done[2:], first, strict=True):
        run = json.loads((folder / row["job"] / "config.json").read_text())
        assert (run["initial"], run["distillation"]["teachers"], run["optimizer"]["lr"]) == (own, first, 0.0005)
        record = json.loads((folder / row["job"] / "environment.json").read_text())
        assert sorted(record["teachers"]) == sorted(first)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "--again optimizer.lr=0.0005`" in text
    assert "--data ROOT" in text
    assert "- second round: every seed starts from its own network" in text
    assert str(tmp_path) not in text
    assert [row["row"] for row in read_csv(tmp_path / "report" / "table.csv")] == ["ddamfn_quick", "second round"]


def test_a_second_round_waits_for_the_first(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddamfn.study import runner

    trained: list[int] = []

    def fails(job: Job, *rest: Any) -> Result:
        trained.append(job.seed)
        if job.seed == 1:
            raise TrainingError("the disk is full")
        return run_job(job, *rest)

    words = [*arguments("seeds", "--seeds", "2"), "--again", "phases.0.epochs=1"]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_job", fails)
        assert main(words) == 1
    assert trained == [0, 1]
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "2 jobs wait" in error
    assert main(words) == 0
    assert len(results(tmp_path / "runs", "seeds-ddamfn_quick")) == 4


def test_settings_of_a_second_round_that_do_not_fit_are_told_at_once(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments("seeds"), "--again", "optimizer.speed=2"]) == 2
    assert "speed" in capsys.readouterr().err
    assert main([*arguments("seeds"), "--again", "twice"]) == 2
    assert "--again takes FIELD=VALUE, not 'twice'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_cluster_without_ray_is_one_line(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*arguments("ablation", "--table", "ddan"), "--ray", "auto"]) == 1
    assert capsys.readouterr().err == 'ddamfn: error: --ray needs ray: pip install "ddamfn[ray]"\n'


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_its_reference_and_networks_of_its_own(table: str) -> None:
    study = ablation(table, recipe("ddamfn_rafdb"), Plan(data="faces", dataset="faces", seeds=2))
    names = [row.name for row in study.rows]
    assert study.reference in names
    assert len({job.id for job in study.jobs}) == len(study.jobs) == 2 * len(names)
    assert len({repr((row.run.model, row.run.objective)) for row in study.rows}) == len(names)
