"""The examples run, on synthetic faces and on the bundled portrait."""

import csv
import re
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ddamfn.data import open_dataset
from ddamfn.labels import EXPRESSIONS
from ddamfn.preparation import prepare
from ddamfn.synthetic import write_synthetic_folder
from ddamfn.weights import find_weights

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_on_the_api_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(PORTRAIT)
    page = (EXAMPLES.parent / "docs" / "api-reading.md").read_text(encoding="utf-8")
    # The last one asks a running server, which tests/test_docs.py has.
    codes = [
        code for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "ask(" not in code
    ]
    assert len(codes) == 4
    for number, code in enumerate(codes):
        exec(compile(code, f"api-reading.md, block {number}", "exec"), {})
    out = capsys.readouterr().out
    assert re.search(r"^[a-z]+ \d+% \(\d+\.\d+, .*\(5, 2\)$", out, re.MULTILINE)
    assert "missing.jpg no such file" in out
    assert Path("annotated.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def synthetic_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return class folders with four synthetic faces of each expression in train, two in val and test."""
    return write_synthetic_folder(tmp_path_factory.mktemp("drawn") / "faces", 4, np.random.default_rng(5))


def test_one_image(tmp_path: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, annotated = tmp_path / "photo.jpg", tmp_path / "annotated.png"
    image.write_bytes(PORTRAIT)
    load("read_image").main([str(image), str(annotated), "--weights", str(stand_in_weights)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] in EXPRESSIONS
    assert lines[0].endswith("from (177.77, 56.78) to (273.19, 177.23)")
    assert any("attention of each head" in line for line in lines)
    with Image.open(annotated) as opened:
        assert opened.width > 512


def test_a_folder_to_csv(tmp_path: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = tmp_path / "photos", tmp_path / "faces.csv"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(PORTRAIT)
    (folder / "inner" / "broken.jpg").write_bytes(PORTRAIT[:5000])
    (folder / "notes.txt").write_text("no image")
    Image.new("RGB", (200, 200), "gray").save(folder / "none.png")
    load("folder_to_csv").main([str(folder), str(table), "--weights", str(stand_in_weights)])
    with table.open(newline="") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    assert set(rows) == {"a.jpg", "broken.jpg", "none.png"}
    assert rows["a.jpg"]["expression"] in EXPRESSIONS
    assert rows["none.png"]["expression"] == rows["none.png"]["error"] == ""
    assert rows["broken.jpg"]["error"]
    counts = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert counts["unreadable"] == counts["without a face"] == "1"


def test_scores_by_confidence(
    synthetic_faces: Path, stand_in_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("evaluate_weights").main([str(stand_in_weights), str(synthetic_faces), "--split", "val"])
    out = capsys.readouterr().out
    assert "rule single label, N = 16" in out
    assert "confidence at least 0.0: answered  100.0%, right" in out


@pytest.mark.slow
@pytest.mark.usefixtures("thin_trunk")
def test_training_on_class_folders_gives_weights_that_can_be_used(
    synthetic_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    monkeypatch.chdir(tmp_path)
    from ddamfn.train import recipe

    # In the alignment of the recipe, and in this process: starting others takes longer than 64 small images.
    prepare(open_dataset(synthetic_faces), "prepared", recipe("ddamfn_quick").data.alignment, workers=1)
    load("train_on_folder").main(["prepared", "mine", "--epochs", "1", "--gate-faces", "56"])
    out = capsys.readouterr().out
    assert "32 images to learn from, 16 to select on" in out
    assert "best epoch 1" in out
    # Few images of one's own are no obstacle: the gate is filled up.
    assert "same predictions as the network on 16 validation faces and 32 training faces and 8 synthetic faces" in out
    assert {path.name for path in Path("runs/mine").iterdir()} >= {"config.json", "environment.json", "metrics.jsonl"}
    network, card = find_weights("mine.onnx")
    assert network.stat().st_size > 500_000
    assert set(card.labels) == set(EXPRESSIONS)
    assert card.input_side_px == 48
    assert card.calibration is not None
    Path("photo.jpg").write_bytes(PORTRAIT)
    load("read_image").main(["photo.jpg", "annotated.png", "--weights", "mine.onnx"])
    assert capsys.readouterr().out.split()[0] in EXPRESSIONS
