"""The script from its command line to its page, chart and figures, on synthetic faces."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddamfn.synthetic import write_synthetic_ferplus
from ddamfn.weights import read_card

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "robustness.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks/ is not part of this copy")


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--quiet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_page_a_chart_and_figures_are_written(
    stand_in_weights: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    root = write_synthetic_ferplus(tmp_path / "synthetic", 1, rng)
    out = tmp_path / "out"
    options = ("--weights", stand_in_weights, "--split", "train", "--limit", "6", "--draws", "2")
    done = call("--data", root, *options, "--output", out)
    (page,), (chart,), (figures,) = (out.glob(f"*-robustness.{kind}") for kind in ("md", "png", "json"))
    measured = json.loads(figures.read_text())
    limits = [(e["drop_ci95"][0], 0.03) for e in measured["levels"] if e["level"] == "mild"]
    limits.append((measured["flips"]["ci95"][0], 0.05))
    # The stand-in predicts at random, so either exit status may be correct.
    assert done.returncode == (1 if any(low > limit for low, limit in limits) else 0), done.stderr
    assert measured["page"] == page.name
    assert measured["sha256"] == read_card(stand_in_weights.with_suffix(".json")).sha256
    text = page.read_text()
    assert text.startswith("# Robustness\n\nWritten by `python benchmarks/robustness.py --quiet --data ROOT ")
    assert f"]({chart.name})" in text
    assert done.stdout.strip() in text
    assert measured["chosen"] == 6
    assert measured["flips"]["draws"] == 2
    assert measured["clean"]["n"] == 6 - measured["faceless"]


def test_what_cannot_be_measured_is_one_line(stand_in_weights: Path, tmp_path: Path) -> None:
    done = call("--data", tmp_path / "nowhere", "--weights", stand_in_weights)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
