"""`ddamfn eval`: from a data set on disk to printed scores."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddamfn.cli import main
from ddamfn.faces import Detection, RetinaFace
from ddamfn.synthetic import write_synthetic_ferplus
from ddamfn.weights import read_card

KEYS = {"accuracy", "correct", "n", "ci95", "mean_class_accuracy", "macro_f1", "per_class_recall", "confusion_matrix"}
KEYS |= {"classes", "ece", "rule", "split", "faces_found", "fallbacks", "duplicate_free", "official"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_ferplus(tmp_path_factory.mktemp("eval") / "ferplus", 2, np.random.default_rng(11))


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["eval", *map(str, arguments)])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_json_is_the_whole_score(root: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = evaluate(capsys, "--weights", stand_in_weights, "--data", root, "--format", "json", "--quiet")
    scores = json.loads(out)
    assert (status, err) == (0, "")
    assert set(scores) >= KEYS
    assert (scores["n"], scores["split"], scores["rule"]) == (8, "test", "majority")
    assert scores["correct"] == sum(scores["confusion_matrix"][i][i] for i in range(8))
    assert scores["accuracy"] == scores["correct"] / 8
    assert scores["faces_found"] + scores["fallbacks"] == 8
    # Eight drawings are not the official test split, and the list of duplicates is not about them.
    assert scores["official"] is False
    assert scores["duplicate_free"] is None


def test_table_names_rule_and_number(root: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = evaluate(capsys, "--weights", stand_in_weights, "--data", root, "--rule", "argmax")
    assert status == 0
    assert "split test, rule argmax, N = 8" in out
    assert "NOT official" in out
    assert "/8" in out


def test_several_rules_are_reported_each_with_its_number(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = root.parent / "votes"
    shutil.copytree(root, votes)
    label = votes / "FER2013Test" / "label.csv"
    lines = label.read_text().splitlines()
    # Four of ten votes are no majority, and still the most.
    torn = [line.rsplit(",", 10)[0] + ",4,3,3,0,0,0,0,0,0,0" for line in lines[:3]]
    label.write_text("\n".join(torn + lines[3:]) + "\n")
    options = ("--weights", stand_in_weights, "--data", votes, "--quiet")
    both = (*options, "--rule", "majority", "argmax", "majority")
    scores = json.loads(evaluate(capsys, *both, "--format", "json", "--output", tmp_path)[1])
    assert [(entry["rule"], entry["n"]) for entry in scores] == [("majority", 5), ("argmax", 8)]
    assert scores[1] == json.loads(evaluate(capsys, *options, "--rule", "argmax", "--format", "json")[1])
    assert json.loads((tmp_path / "argmax" / "scores.json").read_text()) == scores[1]
    assert (tmp_path / "majority" / "predictions.csv").is_file()
    text = evaluate(capsys, *both)[1]
    assert text.index("rule majority, N = 5") < text.index("rule argmax, N = 8")
    assert text.count("95 % interval") == 2


def test_flip_averaging_is_reported_apart_and_changes_no_other_figure(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(stand_in_weights.with_suffix(suffix), tmp_path)
    weights = tmp_path / stand_in_weights.name
    options = ("--weights", weights, "--data", root, "--split", "train", "--quiet")
    plain = json.loads(evaluate(capsys, *options, "--format", "json")[1])
    both = json.loads(evaluate(capsys, *options, "--format", "json", "--flip")[1])
    averaged = both["flip_averaged"]
    assert plain["flip_averaged"] is None
    assert {**both, "flip_averaged": None} == plain
    assert averaged["n"] == plain["n"]
    assert averaged["gain"] == pytest.approx(averaged["accuracy"] - plain["accuracy"])
    text = evaluate(capsys, *options, "--flip", "--record")[1]
    apart = text.index("averaged with the mirrored face, reported apart")
    assert text.index("recall of") < apart < text.index("gain in points")
    (score,) = read_card(weights.with_suffix(".json")).scores
    assert (score["accuracy"], score["correct"]) == (plain["accuracy"], plain["correct"])
    assert score["flip_averaged"]["correct"] == averaged["correct"]


def test_prepared_set_scores_the_same(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--weights", stand_in_weights, "--split", "val", "--format", "json", "--quiet")
    options = (*options, "--rule", "majority", "argmax", "--flip")
    raw = evaluate(capsys, "--data", root, *options)
    prepared = tmp_path / "prepared"
    assert main(["data", "prepare", str(root), str(prepared), "--template", "arcface", "--workers", "1"]) == 0
    capsys.readouterr()
    assert evaluate(capsys, "--data", prepared, *options) == raw


def test_output_holds_scores_answers_and_plots(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    folder = tmp_path / "new" / "scores"
    _, out, _ = evaluate(capsys, "--weights", stand_in_weights, "--data", root, "--format", "json", "--output", folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "confusion.png",
        "predictions.csv",
        "reliability.png",
        "scores.json",
    ]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores == json.loads(out)
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["correct"]) for row in rows) == scores["correct"]


def test_without_matplotlib_all_but_plots_is_written(
    root: Path,
    stand_in_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = evaluate(capsys, "--weights", stand_in_weights, "--data", root, "--output", tmp_path, "--quiet")
    assert status == 0
    assert err.count("\n") == 1
    assert 'pip install "ddamfn[plot]"' in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["predictions.csv", "scores.json"]


def test_unreadable_image_is_told_by_the_exit_status(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root, tmp_path / "copy")
    next(iter(sorted((tmp_path / "copy" / "FER2013Test").glob("*.png")))).write_bytes(b"")
    status, out, _ = evaluate(capsys, "--weights", stand_in_weights, "--data", tmp_path / "copy", "--quiet")
    assert status == 1
    assert "N = 7" in out
    assert "NOT SCORED: 1 unreadable" in out


def test_planted_duplicates_are_left_out_when_asked(
    stand_in_weights: Path, own_layout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_layout("folder")
    duplicate = next((root / "test" / "fear").iterdir())
    shutil.copy(duplicate, root / "train" / "fear" / "duplicate.png")
    options = ("--weights", stand_in_weights, "--data", root, "--format", "json", "--quiet")
    assert json.loads(evaluate(capsys, *options)[1])["duplicate_free"] is None
    scores = json.loads(evaluate(capsys, *options, "--duplicate-free")[1])
    cleaned = scores["duplicate_free"]
    assert cleaned["removed"] == scores["n"] - cleaned["n"] == 1
    assert cleaned["support"]["fear"] == scores["support"]["fear"] - 1
    assert scores["rule"] == cleaned["rule"] == "single label"


def test_duplicates_cannot_be_searched_in_crops(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", "prepare", str(root), str(tmp_path / "p"), "--template", "arcface", "--workers", "1", "--quiet"])
    capsys.readouterr()
    status, _, err = evaluate(
        capsys, "--weights", stand_in_weights, "--data", tmp_path / "p", "--duplicate-free", "--quiet"
    )
    assert status == 2
    assert err.startswith("ddamfn: error: --duplicate-free")


def test_crops_of_another_version_are_refused_in_one_line(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", "prepare", str(root), str(tmp_path / "p"), "--template", "arcface", "--workers", "1", "--quiet"])
    card = json.loads((tmp_path / "p" / "prepared.json").read_text())
    (tmp_path / "p" / "prepared.json").write_text(json.dumps(card | {"format": 1}))
    capsys.readouterr()
    status, out, err = evaluate(capsys, "--weights", stand_in_weights, "--data", tmp_path / "p", "--quiet")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "another version" in err


def test_recorded_score_stands_on_the_card_once(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(stand_in_weights.with_suffix(suffix), tmp_path)
    weights = tmp_path / stand_in_weights.name
    for options in (["--split", "val"], ["--split", "test"], ["--split", "test"]):
        evaluate(capsys, "--weights", weights, "--data", root, "--record", "--quiet", *options)
    card = read_card(weights.with_suffix(".json"))
    assert [score["split"] for score in card.scores] == ["val", "test"]
    test = card.score("test")
    assert test is not None
    assert (test["dataset"], test["rule"], test["n"], test["official"]) == ("ferplus", "majority", 8, False)
    assert main(["predict", "--weights", str(weights), str(root / "none.png"), "--quiet"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--data"),
        (("--data", "x", "--rule", "best"), "invalid choice: 'best'"),
        (("--data", "x", "--workers", "0"), "whole number"),
    ],
)
def test_bad_arguments_end_in_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", *arguments])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in err
    assert err.count("\n") == 1


def test_missing_data_set_is_one_line(
    stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = evaluate(capsys, "--weights", stand_in_weights, "--data", tmp_path / "none")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "does not exist" in err


def test_annotators_and_both_rules_are_reported_and_recorded(
    root: Path, stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(stand_in_weights.with_suffix(suffix), tmp_path)
    options = ("--weights", tmp_path / stand_in_weights.name, "--data", root, "--quiet", "--split", "train")
    scores = json.loads(evaluate(capsys, *options, "--format", "json", "--record")[1])
    assert scores["people"]["n"] == scores["n"]
    assert 0 < scores["people"]["network"] < 1
    assert list(scores["ece_by_rule"]) == ["majority", "argmax_all"]
    assert scores["ece_by_rule"]["majority"]["ece"] == scores["ece"]
    (recorded,) = read_card((tmp_path / stand_in_weights.name).with_suffix(".json")).scores
    assert (recorded["people"], recorded["ece_by_rule"]) == (scores["people"], scores["ece_by_rule"])
    assert "class_prior" not in recorded
    text = evaluate(capsys, *options)[1]
    assert text.index("calibration error by rule") < text.index("beside the annotators") < text.index("of 10")
    # A rule that names several expressions has no accuracy of people.
    assert json.loads(evaluate(capsys, *options, "--rule", "multi_target", "--format", "json")[1])["people"] is None


def test_a_set_of_single_labels_knows_nothing_of_annotators(
    stand_in_weights: Path, drawn_layout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn_layout("folder")
    options = ("--weights", stand_in_weights, "--data", root, "--quiet", "--format", "json")
    scores = json.loads(evaluate(capsys, *options)[1])
    assert (scores["people"], scores["ece_by_rule"]) == (None, {})


def test_another_mix_is_scored_and_never_recorded(
    root: Path, calibrated_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--weights", calibrated_weights, "--data", root, "--quiet", "--split", "train")
    before = calibrated_weights.with_suffix(".json").read_bytes()
    plain = json.loads(evaluate(capsys, *options, "--format", "json")[1])
    changed = json.loads(evaluate(capsys, *options, "--format", "json", "--class-prior", "contempt=.9")[1])
    assert (plain["class_prior"], changed["class_prior"]) == ("training", "contempt=0.9")
    column = plain["classes"].index("contempt")
    said = [sum(row[column] for row in entry["confusion_matrix"]) for entry in (plain, changed)]
    assert said[1] > said[0]
    # The card's thresholds were measured under the mix of training.
    assert plain["selective_prediction"]
    assert changed["selective_prediction"] == []
    assert "class prior contempt=0.9" in evaluate(capsys, *options, "--class-prior", "contempt=.9")[1]
    status, out, err = evaluate(capsys, *options, "--class-prior", "uniform", "--record")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--record" in err
    assert calibrated_weights.with_suffix(".json").read_bytes() == before


@pytest.mark.ferplus
@pytest.mark.slow
def test_official_ferplus_test_split(
    ferplus_root: Path,
    stand_in_weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The published numbers of images, and the known duplicates, on the real set.

    Every image is read and classified, but only each fiftieth is searched: tests/faces has the share that is found.
    """
    searched, detect, turns = [], RetinaFace.detect, count()

    def rarely(*arguments: Any, **options: Any) -> list[Detection]:
        if next(turns) % 50:
            return []
        searched.append(detect(*arguments, **options))
        return searched[-1]

    monkeypatch.setattr(RetinaFace, "detect", rarely)
    options = ("--weights", stand_in_weights, "--data", ferplus_root, "--format", "json", "--quiet")
    scores = json.loads(evaluate(capsys, *options)[1])
    assert (scores["n"], scores["official"]) == (3137, True)
    assert list(scores["support"].values()) == [1083, 892, 394, 382, 269, 16, 86, 15]
    cleaned = scores["duplicate_free"]
    assert cleaned["n"] + cleaned["removed"] == 3137
    # 337 of all 3,573 test images have a duplicate in train, exact or near; the rule keeps some of them.
    assert 250 < cleaned["removed"] <= 337
    assert scores["faces_found"] + scores["fallbacks"] == 3137
    assert 0 < scores["faces_found"] <= sum(map(bool, searched))
