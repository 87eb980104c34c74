"""The script from its command line to its page; compilation takes minutes and is skipped."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
pytest.importorskip("kornia", reason="training needs kornia")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"
pytestmark = [
    pytest.mark.usefixtures("thin_trunk"),
    pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks/ is not part of this copy"),
]
Call = Callable[..., None]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return what runs the script in this process, which has imported PyTorch and has the thin trunk."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # the script sets another

    def run(*arguments: str | Path) -> None:
        words = [str(SCRIPT), "--device", "cpu", "--num-threads", str(torch.get_num_threads()), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


def test_a_page_with_the_loop_and_the_step_is_written(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--quick", "--no-compile", "--images", "8", "--batch-size", "8", "--rounds", "1")
    call(*options, "--output", tmp_path)
    (page,) = tmp_path.glob("*-training.md")
    text = page.read_text()
    assert text == capsys.readouterr().out
    loop, steps = text.split("## The step of the network alone")
    assert "| 48 px | plain |" in loop
    assert "compiled |" not in text
    rows = [line.split(" | ") for line in steps.splitlines() if line.startswith("| 48 px")]
    assert [row[1] for row in rows] == ["plain", "channels last"]
    # The first variant is the reference.
    assert rows[0][4] == "1.00"
    assert float(rows[0][2]) > 0


def test_an_epoch_shorter_than_a_step_is_refused(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        call("--images", "8", "--batch-size", "16", "--output", tmp_path)
    assert stop.value.code == 2
    assert "less than one step" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
