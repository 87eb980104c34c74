"""The written page and the chart: every figure with n, N and interval, and a verdict that can be failed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.evaluate.perturbations import LEVELS
from ddamfn.evaluate.plots import plot_robustness
from ddamfn.evaluate.robustness_report import FlipRate, LevelResult, Robustness, markdown
from ddamfn.evaluate.scores import Scores, score

CLASSES = ("neutral", "happiness")


def scores(correct: int) -> Scores:
    said = np.array([0] * 100 + [1] * 100)
    said[correct:] = 1 - said[correct:]
    return score(np.eye(2)[said], np.eye(2)[[0] * 100 + [1] * 100], CLASSES)


def result(mild: int) -> Robustness:
    levels = [
        LevelResult(name, level, f"{name} {level}", scores(correct), (180 - correct) / 200, (-0.01, 0.2), correct)
        for name, right in {"blur": (mild, 150, 120), "noise": (179, 160, 100)}.items()
        for level, correct in zip(LEVELS, right, strict=True)
    ]
    flips = FlipRate("2 px a point", 5, 200, 31, 0.031, (0.02, 0.042), 17)
    return Robustness(
        weights="w", title="FERPlus", note="votes from somewhere; more", split="test", rule="majority", total=3137,
        chosen=210, faceless=9, unreadable=1, seed=3, clean=scores(180), levels=tuple(levels), flips=flips,
        skipped={"grey": "all pictures are grey already"},
    )  # fmt: skip


def test_page_says_on_what_and_how_many() -> None:
    text = markdown(result(178), "chart.png")
    assert "`w` on FERPlus (votes from somewhere), split test, rule majority: 210 by chance (seed 3) of 3,137" in text
    assert "left out: 9 without a face found, 1 unreadable" in text
    assert "accuracy 90.00 % (180/200, 85.1 to 93.4)" in text
    assert "![accuracy under each change, mild to severe](chart.png)" in text
    assert "31 of 1,000 answers differ from the unchanged face's, 3.10 % (2.0 to 4.2); 17 of 200 faces" in text
    assert "Not measured: grey (all pictures are grey already)." in text
    assert "![" not in markdown(result(178))


def test_table_has_a_row_a_level_with_n_and_intervals() -> None:
    rows = [line.split("|")[1:-1] for line in markdown(result(178)).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row] for row in rows[2:]]
    assert len(cells) == 6
    assert cells[0] == [
        "blur", "mild", "blur mild", "89.00", "178/200", "83.9 to 92.6", "89.00", "1.00", "-1.0 to 20.0", "89.0",
    ]  # fmt: skip
    assert [row[0] for row in cells] == ["blur", "", "", "noise", "", ""]


def test_verdict_is_about_mild_levels_and_can_be_failed() -> None:
    fine, poor = markdown(result(174)), markdown(result(173))
    assert "**No mild level of 2 loses more than 3 points**; the most is 3.00 (blur)." in fine
    assert "**1 of 2 mild levels lose more than 3 points**: blur (3.50)." in poor
    assert [entry.perturbation for entry in result(173).over_limit()] == ["blur"]
    assert result(174).over_limit() == ()
    assert "flips under 3.10 % of the jitters of 2 px a point, within the 5 % allowed" in fine
    flips = result(174).flips
    assert flips is not None
    assert "**over** the 5 % allowed" in markdown(replace(result(174), flips=replace(flips, rate=0.051)))


def test_page_without_jitter_says_nothing_of_flips() -> None:
    assert "flips" not in markdown(replace(result(174), flips=None))


def test_whole_set_and_single_labels_are_named() -> None:
    text = markdown(replace(result(174), rule=None, chosen=3137, faceless=0, unreadable=0, note=""))
    assert "`w` on FERPlus, split test, one label a picture: all of 3,137 pictures. Unchanged" in text


def test_dictionary_is_plain_json() -> None:
    plain = json.loads(json.dumps(result(174).to_dict(), allow_nan=False))
    assert (plain["clean"]["n"], plain["flips"]["ever"], len(plain["levels"])) == (200, 17, 6)


def test_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    pictures = []
    for number, measured in enumerate((result(174), result(60))):
        path = plot_robustness(measured, tmp_path / f"{number}.png", title="w")
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            pictures.append(np.asarray(picture.convert("RGB")))
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()
