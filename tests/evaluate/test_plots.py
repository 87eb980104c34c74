"""Plots are written, show what they are given, and say what they need."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.errors import DataError, MissingExtra
from ddamfn.evaluate import plots
from ddamfn.evaluate.scores import Scores, score

pytest.importorskip("matplotlib", reason="plots need matplotlib")
CLASSES = ("neutral", "happiness", "contempt")


def scores_of(answers: list[int]) -> Scores:
    return score(np.eye(3)[answers], np.eye(3)[[0, 0, 1, 1]], CLASSES)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def blueness(image: np.ndarray) -> int:
    """Pixels of the darkest blue of the map, which only a cell of a whole row's share has."""
    return int((np.abs(image - [8, 48, 107]).sum(axis=2) < 12).sum())


def test_confusion_matrix_shows_shares_of_rows(tmp_path: Path) -> None:
    right = pixels(plots.plot_confusion(scores_of([0, 0, 1, 1]), tmp_path / "a.png", title="rule, N = 4"))
    half = pixels(plots.plot_confusion(scores_of([0, 1, 1, 0]), tmp_path / "b.png", title="rule, N = 4"))
    # Two whole cells against none; what is left is the color bar's end.
    assert blueness(right) > 20 * max(1, blueness(half))


def test_reliability_diagram_is_drawn(tmp_path: Path, rng: np.random.Generator) -> None:
    confidence = rng.random(200)
    first = pixels(plots.plot_reliability(confidence, rng.random(200) < confidence, tmp_path / "a.png"))
    second = pixels(plots.plot_reliability(confidence, np.ones(200, dtype=bool), tmp_path / "b.png"))
    blue = [int((np.abs(image - [0x2F, 0x6D, 0xB3]).sum(axis=2) < 12).sum()) for image in (first, second)]
    # Always right fills the whole square, calibrated about half of it.
    assert blue[1] > 1.6 * blue[0] > 0


def test_confidence_before_is_drawn_beside(tmp_path: Path, rng: np.random.Generator) -> None:
    confidence, right = rng.random(200), rng.random(200) < 0.5
    alone = pixels(plots.plot_reliability(confidence, right, tmp_path / "a.png"))
    beside = pixels(plots.plot_reliability(confidence, right, tmp_path / "b.png", before=confidence**0.3))
    purple = [int((np.abs(image - [0xA0, 0x4A, 0x7F]).sum(axis=2) < 12).sum()) for image in (alone, beside)]
    assert purple[0] == 0 < purple[1]


def row(epoch: int, side_px: int = 48) -> dict[str, object]:
    valid = {"accuracy": 0.1 * epoch, "mean_class_accuracy": 0.05 * epoch, "nll": 1 / epoch}
    train = {"accuracy": 0.09 * epoch, "cross_entropy": 2 / epoch, "attention": 100 / epoch**2}
    return {"epoch": epoch, "side_px": side_px, "lr": 0.1, "train": train, "valid": valid, "head_means": [0.4, 0.5]}


def test_curves_pass_over_a_torn_line_and_missing_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row(1)), json.dumps({**row(2), "lr": None}), json.dumps(row(3, 112))]
    path.write_text("\n".join([*lines, '{"epoch": 4, "tr']))
    image = pixels(plots.plot_training_curves(path, tmp_path / "curves.png", title="a run"))
    assert image.shape[1] == 9 * 150
    assert image.std() > 10


def test_curves_leave_out_panels_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row(1)))
    whole = pixels(plots.plot_training_curves(path, tmp_path / "a.png"))
    path.write_text(json.dumps({"epoch": 1, "lr": 0.1}))
    single = pixels(plots.plot_training_curves(path, tmp_path / "b.png"))
    assert single.shape[0] < 0.5 * whole.shape[0]


def test_the_loss_has_a_panel_where_it_is_not_the_cross_entropy(tmp_path: Path) -> None:
    path, heights = tmp_path / "metrics.jsonl", []
    for parts in ({"cross_entropy": 2.0}, {"cross_entropy": 1.5}, {"spread": 0.5}):
        path.write_text(json.dumps({"epoch": 1, "lr": 0.1, "train": {"loss": 2.0, **parts}}))
        heights.append(pixels(plots.plot_training_curves(path, tmp_path / "curves.png")).shape[0])
    # Two panels stand in one row; a pretext task's loss, its part and the learning rate need two.
    assert heights[0] < heights[1] == heights[2]


@pytest.mark.parametrize("content", ["", '{"epoch": 1}\n', '{"lr": 1}\n'])
def test_record_without_numbers_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match="no number to draw"):
        plots.plot_training_curves(path, tmp_path / "curves.png")


def test_damaged_lines_of_a_record_are_left_out(tmp_path: Path) -> None:
    path, whole = tmp_path / "metrics.jsonl", tmp_path / "whole.jsonl"
    path.write_text('{"epoch": 1, "lr": 1}\nnonsense\n{"epoch": 2, "lr": 1}\n')
    whole.write_text('{"epoch": 1, "lr": 1}\n{"epoch": 2, "lr": 1}\n')
    drawn = [pixels(plots.plot_training_curves(source, tmp_path / "curves.png")) for source in (path, whole)]
    np.testing.assert_array_equal(*drawn)


def test_places_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        plots.plot_training_curves(tmp_path, tmp_path / "curves.png")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        plots.plot_confusion(scores_of([0, 0, 1, 1]), tmp_path / "file" / "a.png")


def test_missing_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "ddamfn\[plot\]"'):
        plots.plot_confusion(scores_of([0, 0, 1, 1]), tmp_path / "a.png")
