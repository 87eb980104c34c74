"""The written page and the chart: every figure with n, N and interval, and a verdict that can be failed."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.evaluate.perturbations import LEVELS
from ddamfn.evaluate.robustness_report import FlipRate, LevelResult, Robustness, judge
from ddamfn.evaluate.scores import Scores, score

PAGE = Path(__file__).resolve().parents[2] / "benchmarks" / "robustness_page.py"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="benchmarks/ is not part of this copy")
SCRIPT = runpy.run_path(str(PAGE)) if PAGE.is_file() else {}
markdown, plot_robustness = SCRIPT.get("markdown"), SCRIPT.get("plot_robustness")
CLASSES = ("neutral", "happiness")


def scores(correct: int) -> Scores:
    said = np.array([0] * 100 + [1] * 100)
    said[correct:] = 1 - said[correct:]
    return score(np.eye(2)[said], np.eye(2)[[0] * 100 + [1] * 100], CLASSES)


def result(mild: int) -> Robustness:
    levels = [
        LevelResult(name, level, f"{name} {level}", scores(correct), (180 - correct) / 200, (-0.01, 0.2), correct)
        for name, right in {"blur": (mild, 150, 120), "noise": (179, 160, 100)}.items()
        for level, correct in zip(LEVELS, right, strict=False)
    ]
    flips = FlipRate("2 px per point", 5, 200, 31, 0.031, (0.02, 0.042), 17)
    return Robustness(
        weights="w", sha256="f" * 64, preprocessing={"color": "rgb"}, title="FERPlus",
        note="votes from somewhere; more", split="test", rule="majority", total=3137,
        chosen=210, faceless=9, unreadable=1, seed=3, clean=scores(180), levels=tuple(levels), flips=flips,
        skipped={"gray": "all images are gray already"},
    )  # fmt: skip


def test_page_names_the_data_and_the_counts() -> None:
    text = markdown(result(178), "chart.png")
    assert "`w` on FERPlus (votes from somewhere), split test, rule majority: 210 at random (seed 3) of 3,137" in text
    assert "left out: 9 without a face found, 1 unreadable" in text
    assert "accuracy 90.00 % (180/200, 85.1 to 93.4)" in text
    assert "![accuracy under each change, from mild on](chart.png)" in text
    assert "31 of 1,000 predictions differ from the unchanged face's, 3.10 % (2.0 to 4.2); 17 of 200 faces" in text
    assert "| gray |  |  |  |  | not measured: all images are gray already |" in text
    assert "![" not in markdown(result(178))


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every table of a page, without its two lines of heading."""
    found = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for rows in found:
        assert len({row.count("|") for row in rows}) == 1
    return [[[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[2:]] for rows in found]


def test_table_has_a_row_per_level_with_n_and_intervals() -> None:
    _, cells = tables(markdown(result(178)))
    assert len(cells) == 6
    assert cells[0] == [
        "blur", "mild", "blur mild", "89.00", "178/200", "83.9 to 92.6", "89.00", "1.00", "-1.0 to 20.0", "89.0",
    ]  # fmt: skip
    assert [row[0] for row in cells] == ["blur", "", "", "noise", "", ""]


@pytest.mark.parametrize(
    ("figure", "interval", "verdict"),
    [
        (0.01, (-0.01, 0.03), "holds"),
        (0.03, (0.0, 0.031), "holds, not proven"),
        (0.031, (0.03, 0.05), "over, may be chance"),
        (0.05, (0.031, 0.07), "fails"),
    ],
)
def test_chance_is_neither_called_success_nor_failure(
    figure: float, interval: tuple[float, float], verdict: str
) -> None:
    assert judge(figure, interval, 0.03) == verdict


def test_every_mild_level_and_the_flips_get_a_verdict() -> None:
    measured = result(173)
    verdicts, _ = tables(markdown(measured))
    assert verdicts[0] == ["blur", "blur mild", "drop 3.50", "-1.0 to 20.0", "3", "over, may be chance"]
    assert verdicts[1] == ["noise", "noise mild", "drop 0.50", "-1.0 to 20.0", "3", "holds, not proven"]
    assert verdicts[2] == ["landmark jitter", "2 px per point, 5 draws", "flips 3.10", "2.0 to 4.2", "5", "holds"]
    assert measured.verdicts() == tuple(row[5] for row in verdicts[:3])
    assert "Of 3 figures: **1 holds; 1 holds, not proven; 1 over, may be chance**." in markdown(measured)
    assert [entry.verdict for entry in measured.levels[1:3]] == [None, None]


def test_what_fails_is_marked() -> None:
    measured = result(160)
    proven = replace(measured.levels[0], drop_ci95=(0.06, 0.14))
    flips = measured.flips
    assert flips is not None
    worse = replace(measured, levels=(proven, *measured.levels[1:]), flips=replace(flips, rate=0.08, ci95=(0.06, 0.1)))
    verdicts, _ = tables(markdown(worse))
    assert (verdicts[0][5], verdicts[2][5]) == ("**fails**", "**fails**")
    assert worse.verdicts() == ("fails", "holds, not proven", "fails")
    assert worse.to_dict()["levels"][0]["verdict"] == "fails"


def test_page_without_jitter_has_no_flips() -> None:
    measured = replace(result(174), flips=None)
    assert "flips" not in markdown(measured)
    assert len(measured.verdicts()) == 2


def test_whole_set_and_single_labels_are_named() -> None:
    text = markdown(replace(result(174), rule=None, chosen=3137, faceless=0, unreadable=0, note=""))
    assert "`w` on FERPlus, split test, one label per image: all of 3,137 images. Unchanged" in text


def test_dictionary_is_plain_json() -> None:
    plain = json.loads(json.dumps(result(174).to_dict(), allow_nan=False))
    assert (plain["clean"]["n"], plain["flips"]["ever"], len(plain["levels"])) == (200, 17, 6)
    assert (plain["sha256"], plain["flips"]["verdict"]) == ("f" * 64, "holds")


def test_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    images = []
    for number, measured in enumerate((result(174), result(60))):
        path = plot_robustness(measured, tmp_path / f"{number}.png", title="w")
        with Image.open(path) as image:
            assert image.format == "PNG"
            images.append(np.asarray(image.convert("RGB")))
    assert images[0].shape == images[1].shape
    assert (images[0] != images[1]).any()


def test_chart_shows_all_levels_of_a_change(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    measured = result(174)
    levels = [replace(measured.levels[0], level=level, strength=f"x {level}") for level in LEVELS]
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        write = "write_figure"
        patch.setitem(plot_robustness.__globals__, write, lambda figure, _: seen.append(figure.axes[0]))
        plot_robustness(replace(measured, levels=tuple(levels)), tmp_path / "chart.png")
    assert seen[0].get_xlim()[1] > len(LEVELS)
    assert [label.get_text() for label in seen[0].get_xticklabels()][:3] == ["clean", "mild", "medium"]
