"""Weights in other formats: written, gated, described, read back."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from torch import Tensor, nn

from ddamfn.classifier import Classifier, preprocessing_of
from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.errors import DataError, UsageError, WeightsError
from ddamfn.evaluate import fit_temperature
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.export import Gate, compare, export_onnx, onnx_runner, torch_runner
from ddamfn.export.formats import Source, _faces, _gate_faces, convert, open_source
from ddamfn.export.gates import GATES, synthetic_crops
from ddamfn.export.loading import create_model, load_network
from ddamfn.faces import Alignment, Stretch
from ddamfn.files import sha256_file
from ddamfn.models import ModelOutput, registry
from ddamfn.preparation import Prepared, prepare
from ddamfn.synthetic import write_synthetic_folder
from ddamfn.weights import Card, read_card, write_card

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
    plain |= {"name": "mine", "labels": list(LABELS), "file": path.name, "sha256": sha256_file(path)}
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
    argv = ["ddamfn", "export", str(source.onnx), "--format", "onnx-int8", "--data", str(prepared.folder), "--force"]
    done = convert(source, "onnx-int8", tmp_path, prepared=prepared, force=True, least_faces=12, argv=argv)
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
    assert card.export["command"] == "ddamfn export mine.onnx --format onnx-int8 --data ROOT --force"
    gate = card.export["gate"]
    assert gate["agreement"] == measured.agreement
    assert gate["speed"].startswith(f"{measured.ms_per_face_before / measured.ms_per_face:.2f} times as fast")
    crops = synthetic_crops(card.labels, card.input_side_px, 3)
    assert np.abs(Classifier(done.path).classify(crops)[0] - Classifier(source.onnx).classify(crops)[0]).max() < 1.0
    with pytest.raises(WeightsError, match="is quantized, which cannot be undone"):
        open_source(done.path, tmp_path)


def test_another_preprocessing_has_its_own_confidence_and_no_old_scores(
    source: Source, prepared: Prepared, tmp_path: Path
) -> None:
    stretch = Stretch(least_range=255, clip_percent=10)  # acts on every face
    preprocessing = replace(preprocessing_of(source.card), stretch=stretch)
    done = convert(source, "onnx", tmp_path, prepared=prepared, preprocessing=preprocessing, least_faces=12)
    classifier = Classifier(done.path)
    assert preprocessing_of(classifier.card) == preprocessing
    # The network is the same, to the bit; what was measured of the old card is not.
    assert (classifier.card.sha256, classifier.card.name) == (source.card.sha256, "mine")
    assert classifier.card.scores == ()
    part = prepared.split("val")
    logits = to_classes(classifier.classify(np.asarray(part.crops))[0], classifier.card.labels, part.classes)
    assert classifier.card.temperature == pytest.approx(fit_temperature(logits, part.targets), rel=1e-3)
    assert classifier.card.calibration is not None
    correct = int((logits.argmax(axis=1) == part.targets.argmax(axis=1)).sum())
    assert classifier.card.export is not None
    assert classifier.card.export["validation"]["correct"] == correct
    assert classifier.card.export["validation"]["rule"] == classifier.card.calibration["rule"] == "single label"
    assert f"{len(part)} validation images" in classifier.card.training["temperature"]
    with pytest.raises(UsageError, match="--data"):
        convert(source, "onnx", tmp_path, name="other", preprocessing=preprocessing, least_faces=3)
    assert not (tmp_path / "other.onnx").exists()


def test_openvino_says_the_same(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino, about 60 MB to fetch")
    done = convert(source, "openvino", tmp_path, least_faces=6)
    assert done.comparison.logit_difference <= 1e-3
    assert done.comparison.faces == "6 synthetic faces"
    card = read_card(tmp_path / "mine-openvino.json")
    assert card.file == "mine-openvino.xml"
    assert card.export is not None
    assert card.export["other_files"] == {"mine-openvino.bin": sha256_file(tmp_path / "mine-openvino.bin")}
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
    with pytest.raises(WeightsError, match=r"4 synthetic faces: .* --force"):
        convert(source, "safetensors", tmp_path / "new", least_faces=4)
    assert not list((tmp_path / "new").iterdir())
    done = convert(source, "safetensors", tmp_path / "new", least_faces=4, force=True)
    assert len(done.comparison.failures) == 1
    card = json.loads((tmp_path / "new" / "mine-safetensors.json").read_text())
    assert card["export"]["gate"]["passed"] is False
    assert card["export"]["gate"]["failures"] == list(done.comparison.failures)


def test_another_card_is_never_written_over(source: Source, tmp_path: Path) -> None:
    convert(source, "safetensors", tmp_path, name="mine", least_faces=3)
    with pytest.raises(UsageError, match=r"mine\.json is the card of mine\.safetensors: choose another --name"):
        convert(source, "onnx", tmp_path, name="mine", least_faces=3)
    convert(source, "safetensors", tmp_path, name="mine", least_faces=3)
    with pytest.raises(UsageError, match="no format 'tflite'"):
        convert(source, "tflite", tmp_path, least_faces=3)  # type: ignore[arg-type]


def test_differences_are_found(source: Source) -> None:
    """The comparison itself: against a network whose class 0 gets 0.25 more."""
    crops = synthetic_crops(source.card.labels, source.card.input_side_px, 7)
    faces, right = _faces(source.card, [crops], "7 faces"), torch_runner(source.network)

    def shifted(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, attention = right(inputs)
        return logits + np.float32([0.25, 0, 0]), attention * 0.5

    measured = compare(right, shifted, faces, GATES["onnx"], timed=True)
    assert measured.logit_difference == pytest.approx(0.25, abs=1e-5)
    assert measured.attention_difference > 0.1
    true = np.concatenate([right(batch)[0] for batch in faces.inputs()])
    expected = ((true + np.float32([0.25, 0, 0])).argmax(axis=1) == true.argmax(axis=1)).mean()
    assert measured.agreement == expected
    assert measured.speed is not None
    assert measured.speed > 0
    assert not compare(onnx_runner(source.onnx), right, faces, GATES["onnx"]).failures


def test_training_shares_come_from_the_set_that_was_trained_on_alone(
    source: Source, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a data set they are drawn.
    monkeypatch.setattr("ddamfn.export.formats._CALIBRATION_FACES", 8)

    def converted(name: str, **training: str) -> Card:
        trained = replace(source, card=replace(source.card, training=training))
        stretch = replace(preprocessing_of(source.card), stretch=Stretch())
        return convert(
            trained, "onnx", tmp_path, name=name, prepared=prepared, preprocessing=stretch, least_faces=3
        ).card

    own = converted("own", data=prepared.dataset, rule="majority").class_prior
    assert own is not None
    assert own["shares"] == pytest.approx(dict.fromkeys(LABELS, 1 / 3))
    assert own["n"] == len(prepared.split("val"))
    assert converted("foreign", data="FERPlus", rule="majority").class_prior is None
    # What is on the card stays, whatever set the confidence is fitted on.
    shares = dict(zip(LABELS, (0.5, 0.3, 0.2), strict=True))
    known = replace(source, card=replace(source.card, class_prior={"shares": shares, "weight": 0.7}))
    done = convert(known, "onnx-int8", tmp_path, prepared=prepared, force=True, least_faces=3)
    assert done.card.class_prior is not None
    assert done.card.class_prior["shares"] == shares
    without = convert(known, "onnx-int8", tmp_path, name="w", force=True, least_faces=3).card.class_prior
    assert without == {"shares": shares, "weight": 0.7}


def test_sets_without_validation_are_named(source: Source, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_gate_faces(source.card, prepared, 1)) == len(prepared.split("val"))
    monkeypatch.setattr("ddamfn.export.formats.own_validation", lambda _: None)
    with pytest.raises(DataError, match="no validation split"):
        _gate_faces(source.card, prepared, 1)


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(convert.__kwdefaults__, "least_faces", 6)


@pytest.mark.usefixtures("few_faces")
def test_command_line(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str], prepared: Prepared) -> None:
    say: Callable[..., int] = lambda *words: main(["export", str(source.onnx), "--output", str(tmp_path), *words])  # noqa: E731
    assert say("--format", "safetensors", "--data", str(prepared.folder), "--quiet") == 0
    out = capsys.readouterr().out
    assert "mine-safetensors.safetensors" in out
    assert "100.00% of the predictions the same" in out
    assert "(+0.00 points)" in out
    assert "times as fast" in out
    assert say("--format", "safetensors", "--precision", "float16") == 2
    assert "--precision is for --format onnx" in capsys.readouterr().err
    assert say("--stretch", "on", "--name", "dark") == 2
    assert "--data" in capsys.readouterr().err
    assert say("--stretch", "on", "--name", "dark", "--data", str(prepared.folder), "--quiet") == 0
    assert read_card(tmp_path / "dark.json").preprocessing["stretch"] == asdict(Stretch())
    assert say("--precision", "float16", "--name", "short", "--force") == 0
    assert read_card(tmp_path / "short.json").precision == "float16"
    assert read_card(tmp_path / "short.json").export["command"].endswith("--precision float16 --name short --force")  # type: ignore[index]
