"""The benchmark of detection writes its tables."""

import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "detection.py"


def test_a_page_with_recall_by_size_is_written(tmp_path: Path) -> None:
    command = [sys.executable, str(_SCRIPT), "--images", "320x240", "--faces", "40", "400", "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (page,) = tmp_path.glob("*-detection.md")
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| 320x240")]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[1] == "40"
    assert cells[2] == cells[6] == cells[10] == "1/1"
