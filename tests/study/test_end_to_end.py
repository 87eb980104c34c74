"""Whole studies in one process each, on synthetic faces: every method once, and the queue with its budget."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.export import weights
from ddamfn.faces import Alignment
from ddamfn.models import resnet
from ddamfn.preparation import prepare
from ddamfn.study.catalog import ESTIMATORS
from ddamfn.study.tables.methods import METHODS, Method
from ddamfn.synthetic import write_synthetic_folder
from ddamfn.train import Optimizer, Phase

Arguments = Callable[..., list[str]]

# Few of the equal layers of the largest networks, which are tested whole without numbers in tests/models; the smallest
# images that PSR can take are more work than all the others' together.
LIGHT = {
    "dacl": {"attention_width": 32}, "mvit": {"mask_depth": 1, "depth": 1}, "transfer": {"depth": 1},
    "poster": {"depth": 1},
}  # fmt: skip
SIDE_PX = 64
CLASSES = ("neutral", "happiness", "surprise")


def light(method: Method) -> Method:
    objective = method.objective
    if hasattr(objective, "embedding_dim"):
        objective = replace(objective, embedding_dim=resnet.FEATURE_CHANNELS)
    return replace(method, options={**method.options, **LIGHT.get(method.network, {})}, objective=objective)


@pytest.mark.slow
@pytest.mark.usefixtures("short_baselines")
def test_every_method_trains_and_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Counting the operations of each network, for an estimate, takes longer than its training here.
    monkeypatch.setattr("ddamfn.study.eta.count_macs", lambda *_: 10**8)
    drawn = write_synthetic_folder(tmp_path / "drawn", 2, np.random.default_rng(1), SIDE_PX, CLASSES)
    module = import_module("ddamfn.study.tables.comparison")
    monkeypatch.setattr(module, "METHODS", {name: light(method) for name, method in METHODS.items()})
    alignment = Alignment("ddamfn_frontal", side_px=SIDE_PX)
    faces = prepare(open_dataset(drawn), tmp_path / "faces", alignment, workers=1).folder
    words = [
        "study", "comparison", "--methods", *METHODS, *ESTIMATORS, "--data", str(faces), "--seeds", "1",
        "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "report"), "--device", "cpu", "--quiet",
        "--recipe", "ddamfn_quick", "--set", f"data.alignment.side_px={SIDE_PX}", "--images", "6",
        "--set", f'phases=[{{"epochs":1,"side_px":{SIDE_PX},"batch_size":6}}]',
    ]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    lines = (tmp_path / "runs" / "comparison" / "results.jsonl").read_text().splitlines()
    results = {row["row"]: row for row in map(json.loads, lines)}
    assert set(results) == {*METHODS, *ESTIMATORS}
    assert all(row["n"] == 3 and row["n_train"] == 6 for row in results.values())
    assert {row["epochs"] for name, row in results.items() if name in METHODS} == {1}
    assert {row["epochs"] for name, row in results.items() if name in ESTIMATORS} == {0}
    with (tmp_path / "report" / "table.csv").open(newline="") as file:
        table = {row["row"]: row for row in csv.DictReader(file)}
    assert table["SCN"]["reported on RAF-DB"] == "87.03"
    assert (table["DDAMFN"]["published on RAF-DB"], table["DDAMFN"]["reported on RAF-DB"]) == ("91.35", "90.635")
    assert {row["ours, each as published"] for row in table.values()} == {"not run"}


def test_the_other_column_is_filled_by_the_other_run(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The paper's own recipe is for larger crops and many epochs; another rate is difference enough.
    phase = Phase(epochs=1, side_px=32, batch_size=18)
    slow = replace(METHODS["ddamfn"], phase=phase, optimizer=Optimizer(lr=1e-4))
    monkeypatch.setattr(import_module("ddamfn.study.tables.comparison"), "METHODS", {"ddamfn": slow})
    words = arguments("comparison", "--methods", "lbp", "--seeds", "1")

    def table() -> dict[str, dict[str, str]]:
        with (tmp_path / "report" / "table.csv").open(newline="") as file:
            return {row["row"]: row for row in csv.DictReader(file)}

    assert main([*words, "--as-published"]) == 0
    published, own = table(), "accuracy, mean ± deviation over seeds"
    assert {row["ours, equal conditions"] for row in published.values()} == {"not run"}
    assert main(words) == 0
    equal = table()
    assert set(equal) == {"LBP + SVM", "DDAMFN"}
    assert {name: row["ours, each as published"] for name, row in equal.items()} == {
        name: row[own] for name, row in published.items()
    }
    assert main([*words, "--as-published"]) == 0
    assert {name: row["ours, equal conditions"] for name, row in table().items()} == {
        name: row[own] for name, row in equal.items()
    }


@pytest.mark.slow
def test_the_queue_keeps_its_budget_and_goes_on(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The gate of an export wants a thousand faces, three networks' answers to each.
    monkeypatch.setattr(weights, "export_run", partial(weights.export_run, least_faces=20))
    names = ("--studies", "factors", "best", "--best", "ddamfn_quick", "--seeds", "1", "--images", "9")
    words = arguments("queue", *names, "--rows", "labels-smoothing", "attention-heads0")
    assert main([*words, "--budget", "0"]) == 0
    assert "the budget is spent" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*/results.jsonl"))
    assert main(words) == 0
    ledger = tmp_path / "runs" / "ablation-factors" / "results.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [row["row"] for row in rows] == ["base", "labels-smoothing", "attention-heads0"]
    # Scored on validation; trained on half of the images, every class with its share.
    assert all((row["n"], row["n_valid"], row["n_train"]) == (9, 9, 9) for row in rows)
    assert all(row["accuracy"] == row["valid_accuracy"] for row in rows)
    assert [len(row["head_means"]) for row in rows] == [2, 2, 0]
    text = (tmp_path / "report" / "factors" / "report.md").read_text()
    assert "The test split was not opened" in text
    assert "`objective.label_smoothing=0.1`" in text
    assert "heads' means" in text
    assert (tmp_path / "runs" / "weights" / "ddamfn_quick.onnx").stat().st_size > 500_000
    out = capsys.readouterr().out
    assert "score it once with: ddamfn eval" in out
    # Once more: nothing is trained or exported again.
    assert main(words) == 0
    assert "is kept" in capsys.readouterr().out


def test_a_budget_ends_a_job_after_an_epoch_and_the_next_start_goes_on(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddamfn.study import runner

    words = arguments("ablation", "--table", "ddan", "--seeds", "1")
    words += ["--set", "phases.0.epochs=2"]
    asked = iter([False, True, True])
    with monkeypatch.context() as patch:
        patch.setattr(runner._Scheduler, "time_is_up", lambda self: next(asked))
        assert main(words) == 0
    (metrics,) = (tmp_path / "runs" / "ablation-ddan").glob("mfn-*/metrics.jsonl")
    first = metrics.read_text()
    assert len(first.splitlines()) == 1
    assert "0 of 2 jobs done" in (tmp_path / "report" / "report.md").read_text()
    assert main(words) == 0
    assert metrics.read_text().startswith(first)
    assert len(metrics.read_text().splitlines()) == 2
    assert "2 of 2 jobs done" in (tmp_path / "report" / "report.md").read_text()


def test_a_teacher_that_does_not_fit_costs_no_other_row(
    arguments: Arguments, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other images are seen before the first job; other classes only when the row begins, and the rest goes on."""

    def teacher(name: str, *settings: str) -> str:
        words = ["train", "ddamfn_quick", "--data", str(faces), "--runs", str(tmp_path / "taught"), "--name", name]
        small = ("data.alignment.side_px=32", 'phases=[{"epochs":1,"side_px":32,"batch_size":18}]')
        words += [word for setting in (*small, *settings) for word in ("--set", setting)]
        assert main([*words, "--device", "cpu", "--quiet"]) == 0
        return str(tmp_path / "taught" / name)

    def study(run: str) -> int:
        rows = ["--rows", "distillation", "--teachers", run, "--seeds", "1"]
        return main(arguments("ablation", "--table", "factors", *rows))

    other_look = teacher("look", 'data.preprocessing={"color":"gray"}')
    other_classes = teacher("classes", 'data.classes=["neutral","happiness"]')
    capsys.readouterr()
    assert study(other_look) == 2
    assert "was trained on images of another preprocessing" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert study(other_classes) == 1
    assert "choose a teacher of the same classes" in capsys.readouterr().err
    assert "2 of 4 jobs done" in (tmp_path / "report" / "report.md").read_text()
