"""`ddamfn demo`: a table, the probabilities, and an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli import main
from ddamfn.labels import EXPRESSIONS


def test_the_demo_prints_a_table_and_draws_the_attention(
    tmp_path: Path, stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--weights", str(stand_in_weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("expression")
    assert lines[1].endswith("astronaut.jpg")
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in EXPRESSIONS][1:] == list(
        EXPRESSIONS
    )
    assert any("NASA" in line for line in lines)
    assert "annotated image: ddamfn-demo.png" in lines
    with Image.open("ddamfn-demo.png") as image:
        # The portrait on the left, and on the right a card with colors of the attention maps.
        assert image.width > 2 * 512
        right = np.asarray(image.convert("RGB"))[:, 700:].astype(int)
    assert (np.ptp(right, axis=-1) > 60).mean() > 0.02


def test_the_image_can_go_elsewhere(tmp_path: Path, stand_in_weights: Path) -> None:
    for name, kind in (("new/demo.jpg", "JPEG"), ("demo.webp", "WEBP")):
        assert main(["demo", "--weights", str(stand_in_weights), "--output", str(tmp_path / name)]) == 0
        with Image.open(tmp_path / name) as image:
            assert image.format == kind


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for output, status, reason in (
        (tmp_path, 2, "is a folder"),
        (tmp_path / "demo", 2, "no format for images"),
        (tmp_path / "file" / "demo.png", 1, "cannot write"),
    ):
        assert main(["demo", "--weights", str(stand_in_weights), "--output", str(output)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
