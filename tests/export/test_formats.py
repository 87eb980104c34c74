"""Weights in other formats: written, gated, described, read back."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from torch import Tensor, nn

from ddamfn.classifier import Classifier
from ddamfn.cli import export as verb
from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.errors import DataError, UsageError, WeightsError
from ddamfn.export import export_onnx, formats
from ddamfn.export.formats import FORMATS, Source, convert, open_source
from ddamfn.export.gates import (
    GATES,
    Comparison,
    Gate,
    compare,
    onnx_runner,
    synthetic_faces,
    torch_runner,
    validation_faces,
)
from ddamfn.export.loading import create_model, load_network
from ddamfn.faces import Alignment
from ddamfn.models import ModelOutput, registry
from ddamfn.preparation import Prepared, prepare
from ddamfn.synthetic import write_synthetic_folder
from ddamfn.weights import Card, read_card, sha256, write_card

LABELS = ("neutral", "happiness", "surprise")


class Dense(nn.Module):
    """A network with one convolution that is worth eight bits, and logits that are far apart."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 64, 1)
        self.dense = nn.Conv2d(64, 64, 1)
        self.classifier = nn.Linear(64 * 49, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        pooled = torch.relu(self.widen(nn.functional.avg_pool2d(images, 16)))
        features = self.dense(pooled)
        attention = torch.sigmoid(features).unflatten(1, (2, 32))
        return ModelOutput(self.classifier(features.flatten(1)), features, attention)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, stand_in_weights: Path) -> Source:
    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "dense", Dense)
        network = Dense(3).eval()
        path = export_onnx(network, folder / "mine.onnx")
    plain = read_card(stand_in_weights.with_suffix(".json")).to_dict()
    plain["architecture"] = {"name": "dense", "num_classes": 3, "num_heads": 2, "parameters": 1, "gmac": 0.0}
    plain["architecture"]["options"] = {}
    plain["scores"] = [{"split": "test", "accuracy": 0.5}]
    plain |= {"name": "mine", "labels": list(LABELS), "file": path.name, "sha256": sha256(path.read_bytes())}
    write_card(Card.from_dict(plain), path.with_suffix(".json"))
    return Source(path, read_card(path.with_suffix(".json")), network)


@pytest.fixture(autouse=True)
def _dense_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._BUILDERS, "dense", Dense)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Prepared:
    folder = tmp_path_factory.mktemp("data")
    root = write_synthetic_folder(folder / "raw", 4, np.random.default_rng(0), classes=LABELS)
    entry = source.card.alignment
    alignment = Alignment(entry["template"], entry["margin"], entry["side_px"])
    return prepare(open_dataset(root), folder / "prepared", alignment, workers=1)


def test_int8_is_gated_described_and_read_back(source: Source, prepared: Prepared, tmp_path: Path) -> None:
    done = convert(source, "onnx-int8", tmp_path, prepared=prepared, force=True, least_faces=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-int8.json", "mine-int8.onnx"]
    measured = done.comparison
    assert measured.n == 12
    assert "validation faces and" in measured.faces
    assert measured.validation == len(prepared.split("val"))
    assert measured.accuracy_change is not None
    assert 0 < measured.logit_difference < 1.0
    card = Classifier(done.path).card
    assert (card.precision, card.scores) == ("int8", ())
    # Its confidence is fitted to its own answers.
    assert card.calibration is not None
    assert card.calibration["n"] == measured.validation
    assert card.temperature != source.card.temperature
    assert card.export is not None
    assert card.export["made_from"] == {"name": "mine", "sha256": source.card.sha256}
    forced = " --force" if done.failures else ""
    words = "ddamfn export mine.onnx --format onnx-int8 --name mine-int8 --data ROOT"
    assert card.export["command"] == words + forced
    gate = card.export["gate"]
    assert gate["agreement"] == measured.agreement
    assert gate["speed"].startswith(f"{measured.ms_per_face_before / measured.ms_per_face:.2f} times as fast")
    crops = synthetic_faces(card, 3).crops[0]
    assert np.abs(Classifier(done.path).classify(crops)[0] - Classifier(source.onnx).classify(crops)[0]).max() < 1.0
    with pytest.raises(WeightsError, match="is quantized, which cannot be undone"):
        open_source(done.path, tmp_path)


def test_openvino_says_the_same(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino, about 60 MB to fetch")
    done = convert(source, "openvino", tmp_path, least_faces=6)
    assert done.comparison.logit_difference <= 1e-3
    assert done.comparison.faces == "6 synthetic faces"
    card = read_card(tmp_path / "mine-openvino.json")
    assert card.file == "mine-openvino.xml"
    assert card.export is not None
    assert card.export["other_files"] == {"mine-openvino.bin": sha256((tmp_path / "mine-openvino.bin").read_bytes())}
    with pytest.raises(WeightsError, match="cannot be read into PyTorch"):
        load_network(tmp_path / "mine-openvino.json")
    with pytest.raises(WeightsError, match=r"is for PyTorch or another runtime: name an \.onnx file"):
        Classifier(tmp_path / "mine-openvino.json")


def test_safetensors_and_hub_folder_go_back_into_pytorch(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    images = torch.randn(3, 3, 112, 112)
    for kind, name in (("safetensors", "mine-safetensors.safetensors"), ("hub-folder", "mine-hub-folder")):
        done = convert(source, kind, tmp_path, least_faces=5)
        assert done.path.name == name
        assert torch.equal(create_model("dense", weights=done.path)(images).logits, source.network(images).logits)
        assert done.card.scores == source.card.scores
    files = sorted(path.name for path in (tmp_path / "mine-hub-folder").iterdir())
    assert files == ["README.md", "config.json", "model.json", "model.onnx", "model.safetensors"]
    assert Classifier(tmp_path / "mine-hub-folder" / "model.onnx").card.name == "mine-hub-folder"
    # And from PyTorch's forms to ONNX again.
    again = open_source(tmp_path / "mine-safetensors.safetensors", tmp_path)
    assert convert(again, "onnx", tmp_path / "again", name="back", least_faces=5).comparison.agreement == 1.0
    assert open_source(tmp_path / "mine-hub-folder", tmp_path).onnx == tmp_path / "mine-hub-folder" / "model.onnx"


def test_what_falls_under_its_gate_is_not_written(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GATES, "safetensors", Gate(1e-12, 1.0, 0.0))
    with pytest.raises(WeightsError, match=r"falls under its gate on 4 synthetic faces: outputs differ by .* --force"):
        convert(source, "safetensors", tmp_path / "new", least_faces=4)
    assert not list((tmp_path / "new").iterdir())
    done = convert(source, "safetensors", tmp_path / "new", least_faces=4, force=True)
    assert len(done.failures) == 1
    card = json.loads((tmp_path / "new" / "mine-safetensors.json").read_text())
    assert card["export"]["gate"]["passed"] is False
    assert card["export"]["gate"]["failures"] == list(done.failures)


def test_another_card_is_never_written_over(source: Source, tmp_path: Path) -> None:
    convert(source, "safetensors", tmp_path, name="mine", least_faces=3)
    with pytest.raises(UsageError, match=r"mine\.json is the card of mine\.safetensors: choose another --name"):
        convert(source, "onnx", tmp_path, name="mine", least_faces=3)
    convert(source, "safetensors", tmp_path, name="mine", least_faces=3)
    with pytest.raises(UsageError, match="no format 'tflite'"):
        convert(source, "tflite", tmp_path, least_faces=3)  # type: ignore[arg-type]


def changed(**changes: object) -> Comparison:
    values = {
        "faces": "10 faces", "n": 10, "logit_difference": 0.0, "attention_difference": 0.0, "agreement": 1.0,
        "validation": 10, "accuracy_before": 0.5, "accuracy_after": 0.5, "ms_per_face": 2.0, "ms_per_face_before": 1.0,
    }  # fmt: skip
    return Comparison(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "onnx", []),
        ({"attention_difference": 2e-4}, "onnx", ["outputs differ by up to 0.0002, allowed 0.0001"]),
        ({"attention_difference": 2e-4}, "openvino", []),
        ({"logit_difference": float("nan")}, "openvino", ["outputs differ by up to nan, allowed 0.001"]),
        ({"agreement": 0.999}, "openvino", ["99.90% of the answers agree, needed 100%"]),
        ({"agreement": 0.98, "logit_difference": 3.0}, "onnx-int8", []),
        ({"agreement": 0.979}, "onnx-int8", ["97.90% of the answers agree, needed 98%"]),
        ({"accuracy_after": 0.495}, "onnx-int8", []),
        ({"accuracy_after": 0.494}, "onnx-int8", ["accuracy changes by -0.60 points, allowed -0.5"]),
        ({"accuracy_before": None, "accuracy_after": None}, "onnx", []),
    ],
)
def test_gates(changes: dict[str, object], kind: str, words: list[str]) -> None:
    assert changed(**changes).failures(GATES[kind]) == words


@pytest.mark.parametrize(("ms", "verdict"), [(2.0, "slower"), (1.02, "about as fast"), (0.5, "faster")])
def test_slower_is_said(ms: float, verdict: str) -> None:
    words = changed(ms_per_face=ms).to_dict()["speed"]
    assert words == f"{1 / ms:.2f} times as fast as the float32 ONNX file on this machine: {verdict}"


def test_differences_are_found(source: Source) -> None:
    """The comparison itself: against a network whose class 0 gets 0.25 more."""
    faces = synthetic_faces(source.card, 7)
    right = torch_runner(source.network)

    def shifted(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, attention = right(inputs)
        return logits + np.float32([0.25, 0, 0]), attention * 0.5

    measured = compare(right, shifted, faces, source.card)
    assert measured.logit_difference == pytest.approx(0.25, abs=1e-5)
    assert measured.attention_difference > 0.1
    true = np.concatenate([right(batch)[0] for batch in faces.inputs(source.card)])
    expected = ((true + np.float32([0.25, 0, 0])).argmax(axis=1) == true.argmax(axis=1)).mean()
    assert measured.agreement == expected
    exact = compare(onnx_runner(source.onnx), right, faces, source.card)
    assert exact.failures(GATES["onnx"]) == []
    with pytest.raises(WeightsError, match="not finite"):
        compare(right, lambda inputs: (right(inputs)[0] * np.nan, right(inputs)[1]), faces, source.card)
    with pytest.raises(WeightsError, match="no faces"):
        compare(right, right, formats.GateFaces([], "none"), source.card)


def test_sets_without_validation_are_named(source: Source, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(validation_faces(source.card, prepared, 1)) == len(prepared.split("val"))
    monkeypatch.setattr("ddamfn.export.gates.own_validation", lambda _: None)
    with pytest.raises(DataError, match="no validation split of its own"):
        validation_faces(source.card, prepared, 1)


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(convert.__kwdefaults__, "least_faces", 6)


@pytest.mark.usefixtures("few_faces")
def test_command_line(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str], prepared: Prepared) -> None:
    say: Callable[..., int] = lambda *words: main(["export", str(source.onnx), "--output", str(tmp_path), *words])  # noqa: E731
    assert say("--format", "safetensors", "--data", str(prepared.folder), "--quiet") == 0
    out = capsys.readouterr().out
    assert "mine-safetensors.safetensors" in out
    assert "100.00% of the answers the same" in out
    assert "(+0.00 points)" in out
    assert "times as fast" in out
    assert say("--format", "safetensors", "--precision", "float16") == 2
    assert "--precision is for --format onnx" in capsys.readouterr().err
    assert say("--precision", "float16", "--name", "short", "--force") == 0
    assert read_card(tmp_path / "short.json").precision == "float16"
    assert verb.FORMATS == FORMATS == tuple(GATES)
