"""The script from its command line to its page; compilation takes minutes and is skipped."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")
pytest.importorskip("kornia", reason="training needs kornia")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks/ is not part of this copy"),
]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--num-threads", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_page_with_the_loop_and_the_step_is_written(tmp_path: Path) -> None:
    options = ("--quick", "--no-compile", "--images", "16", "--batch-size", "8", "--rounds", "1")
    done = call(*options, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("*-training.md")
    text = page.read_text()
    assert text == done.stdout
    loop, steps = text.split("## The step of the network alone")
    assert "| 48 px | plain |" in loop
    assert "compiled |" not in text
    rows = [line.split(" | ") for line in steps.splitlines() if line.startswith("| 48 px")]
    assert [row[1] for row in rows] == ["plain", "channels last"]
    # The first variant is the reference.
    assert rows[0][4] == "1.00"
    assert float(rows[0][2]) > 0


def test_an_epoch_shorter_than_a_step_is_refused(tmp_path: Path) -> None:
    done = call("--images", "8", "--batch-size", "16", "--output", tmp_path)
    assert done.returncode == 2
    assert "less than one step" in done.stderr
    assert not list(tmp_path.iterdir())
