"""The page on training does what it says: its commands, in its order, make weights that read a photograph."""

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ddamfn import Recognizer
from ddamfn.cli import main
from ddamfn.labels import EXPRESSIONS
from ddamfn.weights import find_weights

PAGE = Path(__file__).resolve().parents[1] / "docs" / "train.md"
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("thin_trunk")
def test_the_page_makes_weights_of_a_csv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from ddamfn.export.weights import export_run

    # Most of the thousand faces that the gate asks for would have to be drawn, which takes minutes.
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 24)
    # Starting other processes takes longer than aligning a few images.
    monkeypatch.setattr("ddamfn.preparation.preparing.num_cores", lambda: 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    Path("photo.jpg").write_bytes(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())

    commands = [
        shlex.split(line) for block in FENCE.findall(PAGE.read_text(encoding="utf-8")) for line in block.splitlines()
    ]
    verbs = [" ".join(words[: 3 if words[1] == "data" else 2]) for words in commands]
    assert verbs == [
        "pip install", "ddamfn data draw", "ddamfn data check", "ddamfn train", "ddamfn data cache", "ddamfn export",
        "ddamfn eval", "ddamfn predict", "ddamfn predict",
    ]  # fmt: skip
    told = {}
    for verb, words in zip(verbs[1:], commands[1:], strict=True):
        # In this process: six more would each spend seconds on importing PyTorch.
        assert main(words[1:]) == 0, " ".join(words)
        told[verb] = capsys.readouterr().out

    table = Path("faces/table.csv").read_text(encoding="utf-8")
    assert table.startswith("path,label,split,")
    assert "nothing wrong was found" in told["ddamfn data check"]
    assert "gate passed on 8 validation faces and 16 training faces" in told["ddamfn export"]
    assert re.search(r"\bof 8\b|N = 8\b", told["ddamfn eval"])

    network, card = find_weights("mine.onnx")
    assert card.labels == EXPRESSIONS
    assert card.training["data"] == "table"
    assert card.calibration is not None
    assert card.calibration["n"] == 8
    # What a program without this package sees.
    session = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
    batch = np.zeros((3, 3, card.input_side_px, card.input_side_px), np.float32)
    logits, attention = session.run(["logits", "attention"], {"input": batch})
    assert (logits.shape, attention.shape) == ((3, 8), (3, 2, 7, 7))

    result = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert result["faces"][0]["expression"] in EXPRESSIONS
    assert Recognizer("mine.onnx").predict("photo.jpg").faces[0].expression == result["faces"][0]["expression"]
