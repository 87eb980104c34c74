"""A run's folder to weights that the inference side reads, by Python and by the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")

from ddamfn.classifier import Classifier
from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.errors import ConfigError, TrainingError, UsageError, WeightsError
from ddamfn.evaluate import score
from ddamfn.evaluate.calibration import class_shift, measure_calibration
from ddamfn.export import weights as export_weights
from ddamfn.export.card import seeds_record
from ddamfn.export.formats import convert
from ddamfn.export.gates import Comparison, compare
from ddamfn.export.loading import load_network
from ddamfn.export.weights import Tau, export_run
from ddamfn.faces import Alignment, Stretch, preprocess
from ddamfn.faces import Preprocessing as FacePreprocessing
from ddamfn.models import create_network
from ddamfn.preparation import Prepared, prepare
from ddamfn.recognizer import Recognizer
from ddamfn.synthetic import write_synthetic_folder
from ddamfn.train import Data, Model, Phase, Run, load_splits, recipe
from ddamfn.train.config import to_dict
from ddamfn.train.run_folder import read_run, save_weights_file
from ddamfn.train.settings import run_from_dict

# So strong that it acts on every face.
STRETCH = Stretch(least_range=250, clip_percent=5.0, largest_gain=9)
CLASSES = ("neutral", "happiness", "fear")
# What is tested does not depend on the network, and the real ones take ten seconds to export.
TINY = Model(name="tiny_network", options={"num_heads": 2})

ARGV = ["ddamfn", "train", "ddamfn_quick", "--data", "/home/someone/faces", "--set", "seed=4"]

pytestmark = pytest.mark.usefixtures("registered_tiny")


def settings() -> Run:
    alignment = Alignment("arcface", 0.1, side_px=112)
    data = Data(classes=CLASSES, alignment=alignment, preprocessing=FacePreprocessing("gray", 48, STRETCH))
    phases = (Phase(epochs=1, side_px=48, batch_size=8), Phase(epochs=3, side_px=112, batch_size=8))
    return replace(recipe("ddamfn_quick"), model=TINY, data=data, phases=phases, seed=4)


def row(epoch: int, side_px: int, correct: int) -> dict[str, object]:
    targets = np.eye(3)[[0, 1, 2, 0]]
    logits = targets.copy()
    logits[correct:] = np.roll(targets[correct:], 1, axis=1)
    return {
        "epoch": epoch,
        "side_px": side_px,
        "valid": score(logits, targets, CLASSES).to_dict(),
        "head_means": [0.5, 0.5],
        "head_difference": 0.02 * epoch,
        "max_attention_mean": 0.6,
    }


def write_run(folder: Path, run: Run, rows: list[dict[str, object]]) -> Path:
    """A run's folder as training leaves it, with two checkpoints of different weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_dict(run)))
    environment = {"commit": "abc123", "torch": "2", "ddamfn": "0", "argv": ARGV}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    for seed, name in enumerate(("best", "last")):
        torch.manual_seed(seed)
        network = create_network(run.model.name, num_classes=3, **run.model.options)
        save_weights_file(network.state_dict(), folder / "checkpoints" / f"{name}.safetensors")
    return folder


ROWS = [row(1, 48, 4), row(2, 112, 2), row(3, 112, 3), row(4, 112, 3)]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, registered_tiny: str) -> Path:
    assert registered_tiny == TINY.name
    return write_run(tmp_path_factory.mktemp("runs") / "a", settings(), ROWS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Synthetic faces of the three classes, aligned as the run asks."""
    folder = tmp_path_factory.mktemp("data")
    root = write_synthetic_folder(folder / "raw", 6, np.random.default_rng(0), classes=CLASSES)
    return prepare(open_dataset(root), folder / "prepared", settings().data.alignment, workers=1)


def test_checkpoints_belong_to_the_epochs_they_were_kept_at(run_folder: Path) -> None:
    # Epoch 1 was better, but at a smaller size; of equal epochs the first is the best.
    assert read_run(run_folder, "best").row["epoch"] == 3
    assert read_run(run_folder, "last").row["epoch"] == 4
    best, last = (read_run(run_folder, name).network.state_dict() for name in ("best", "last"))
    assert any(not torch.equal(value, last[name]) for name, value in best.items())
    assert not read_run(run_folder).network.training


def test_exported_run_is_read_by_the_classifier(run_folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    finished = read_run(run_folder)
    argv = ["ddamfn", "export", str(run_folder), "--data", str(prepared.folder), "--name", "mine"]
    done = export_run(finished, "mine", tmp_path / "new", prepared=prepared, least_faces=20, argv=argv)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["mine.json", "mine.onnx"]
    assert not done.comparison.failures
    card = Classifier(done.path).card
    assert card == done.card
    assert card.labels == CLASSES
    assert card.alignment["template"] == "arcface"
    assert (card.alignment["margin"], card.input_side_px) == (0.1, 112)
    stretch = {"least_range": 250, "clip_percent": 5.0, "largest_gain": 9}
    assert card.preprocessing == {"color": "gray", "detail_px": 48, "stretch": stretch}
    assert card.training["commit"] == "abc123"
    assert card.training["command"] == "ddamfn train ddamfn_quick --data ROOT --set seed=4"
    assert card.training["export_command"] == "ddamfn export RUN --data ROOT --name mine"
    assert run_from_dict(card.training["config"]) == finished.run
    assert (card.training["seed"], card.training["epochs"], card.training["validation"]["correct"]) == (4, 4, 3)
    assert "epoch 3" in card.training["selection"]
    assert card.training["attention"] == {
        "head_means": [0.5, 0.5],
        "head_difference": pytest.approx(0.06),
        "max_attention_mean": 0.6,
    }
    assert card.training["validation"]["per_class_recall"] == ROWS[2]["valid"]["per_class_recall"]  # type: ignore[index]
    assert "initial" not in card.training
    assert card.training["parity"]["n"] >= 20
    assert card.temperature != 1.0
    # The very path of prediction: crops in, the trained network's logits out.
    crops = np.asarray(prepared.split("val").crops[:5])
    pixels = preprocess(crops, finished.run.data.preprocessing)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (finished.run.data.mean, finished.run.data.std))
    with torch.inference_mode():
        expected = finished.network((images - mean) / std).logits.numpy()
    np.testing.assert_allclose(Classifier(done.path).classify(crops)[0], expected, atol=1e-4)


def test_without_data_nothing_is_calibrated(run_folder: Path, tmp_path: Path) -> None:
    done = export_run(read_run(run_folder), "mine", tmp_path, least_faces=12, precision="float16")
    assert done.comparison.faces == "12 synthetic faces"
    assert (done.card.temperature, done.card.precision) == (1.0, "float16")
    assert "not fitted" in done.card.training["temperature"]
    assert (done.card.calibration, done.card.class_prior) == (None, None)
    with pytest.raises(UsageError, match="class prior"):
        Recognizer(done.path, class_prior="uniform")
    with pytest.raises(UsageError, match="mine cannot abstain"):
        Recognizer(done.path, min_precision=0.5)


def test_the_curve_is_that_of_the_file_on_validation(run_folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    done = export_run(read_run(run_folder), "mine", tmp_path, prepared=prepared, least_faces=20)
    part, classifier = prepared.split("val"), Classifier(done.path)
    targets = part.targets[:, [prepared.classes.index(name) for name in CLASSES]]
    logits, _ = classifier.classify(np.asarray(part.crops))
    expected = measure_calibration(logits, targets, classifier.card.temperature, rule="majority")
    curve = classifier.card.calibration
    assert curve is not None
    assert (curve["split"], curve["rule"], curve["n"]) == ("validation", "single label", len(part))
    assert curve["thresholds"] == pytest.approx(expected["thresholds"], abs=1e-4)
    assert curve["ece_before"] == pytest.approx(expected["ece_before"], abs=1e-3)
    # The shares of the training images, for other mixes.
    prior = classifier.card.class_prior
    assert prior is not None
    assert prior["shares"] == pytest.approx(dict.fromkeys(CLASSES, 1 / 3))
    assert prior["n"] == len(part)
    # Whatever so small a network reaches, that much can be asked for.
    assert Recognizer(done.path, min_precision=max(curve["precision_low"])).threshold in curve["thresholds"]


@pytest.mark.parametrize("tau", [0.5, "fit"])
def test_rare_classes_are_answered_more_often_by_the_file_itself(
    run_folder: Path, prepared: Prepared, tmp_path: Path, tau: Tau
) -> None:
    finished = read_run(run_folder)
    plain = export_run(finished, "plain", tmp_path, prepared=prepared, least_faces=20)
    done = export_run(finished, "mine", tmp_path, prepared=prepared, adjustment=tau, least_faces=20)
    train, valid = load_splits(prepared, finished.run, torch.device("cpu"))
    shares = train.describe().class_shares
    assert shares is not None
    shift = class_shift(shares, done.card.training["logit_adjustment"]["tau"])
    crops = prepared.split("val", "majority").crops[:]
    before, after = (Classifier(one.path).classify(crops)[0] for one in (plain, done))
    assert np.allclose(after, before + shift, atol=1e-5)
    # The card tells of the file, and what the run had before.
    predicted = after[:, [done.card.labels.index(name) for name in valid.classes]].argmax(axis=1)
    correct = int((predicted == valid.targets.argmax(dim=1).numpy()).sum())
    assert (done.card.training["validation"]["correct"], done.card.training["validation"]["n"]) == (correct, len(valid))
    assert done.card.training["logit_adjustment"]["validation_before"]["correct"] == ROWS[2]["valid"]["correct"]  # type: ignore[index]
    chosen = "highest mean class accuracy" if tau == "fit" else "given"
    assert chosen in done.card.training["logit_adjustment"]["chosen"]
    assert "logit_adjustment" not in plain.card.training
    # The run itself is as it was.
    untouched = read_run(run_folder).network.state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in finished.network.state_dict().items())


def test_logits_are_adjusted_by_data_and_of_linear_layers_alone(
    run_folder: Path, prepared: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="add --data"):
        export_run(read_run(run_folder), "mine", tmp_path, adjustment=0.3)
    finished = read_run(run_folder)
    finished.network.classifier.bias = None  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="tiny_network does not end in a linear layer with a bias"):
        export_run(finished, "mine", tmp_path, prepared=prepared, adjustment=0.3)
    assert not list(tmp_path.iterdir())


def test_command_line_adjusts_logits_and_says_what_came_of_it(
    run_folder: Path,
    prepared: Prepared,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 8)
    asked = ["export", str(run_folder), "--name", "cli", "--output", str(tmp_path), "--quiet"]
    assert main([*asked, "--data", str(prepared.folder), "--logit-adjustment", "0.4"]) == 0
    assert "logits adjusted with tau 0.4: " in capsys.readouterr().out
    assert main([*asked, "--logit-adjustment", "0.4"]) == 2
    assert "add --data ROOT" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "cli.onnx"), "--logit-adjustment", "fit"]) == 2
    assert "is for a run's folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--logit-adjustment", "2"])
    assert "must be `fit` or a number from 0 to 1" in capsys.readouterr().err


def test_command_line_computes_on_the_threads_that_are_asked_for(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 8)
    asked = ["export", str(run_folder), "--name", "cli", "--output", str(tmp_path), "--quiet"]
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            assert main([*asked, "--num-threads", str(threads)]) == 0
            assert torch.get_num_threads() == threads
        assert main(asked) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(SystemExit):
        main([*asked, "--num-threads", "0"])
    assert "'0' is not a whole number of at least 1" in capsys.readouterr().err


def test_card_says_what_other_seeds_reached(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [
        write_run(tmp_path / "one", replace(settings(), seed=5), [row(3, 112, 4)]),
        write_run(tmp_path / "two", replace(settings(), seed=2), [row(3, 112, 2)]),
    ]
    done = export_run(read_run(run_folder), "mine", tmp_path, seeds=[read_run(one) for one in others], least_faces=8)
    record = done.card.training["seeds"]
    assert [(run["seed"], run["correct"], run["n"]) for run in record["runs"]] == [(2, 2, 4), (4, 3, 4), (5, 4, 4)]
    assert (record["mean"], record["deviation"]) == (0.75, 0.25)
    asked = ["export", str(run_folder), "--name", "cli", "--output", str(tmp_path), "--quiet"]
    other = write_run(tmp_path / "longer", replace(settings(), seed=6, ema=0.9), ROWS)
    assert main([*asked, "--seeds", str(others[0]), str(other)]) == 1
    assert f"{other} differs from {run_folder} by more than its seed" in capsys.readouterr().err
    assert main([*asked, "--seeds", str(run_folder)]) == 1
    assert "same seed" in capsys.readouterr().err
    assert main(["export", str(done.path), "--seeds", str(run_folder)]) == 2
    assert "--seeds is for a run's folder" in capsys.readouterr().err
    assert not (tmp_path / "cli.onnx").exists()


def test_seeds_of_a_second_round_may_begin_with_the_same_seeds_of_the_first(tmp_path: Path) -> None:
    first = [write_run(tmp_path / f"first{seed}", replace(settings(), seed=seed), ROWS) for seed in (1, 2)]
    again = [replace(settings(), seed=seed, initial=str(one)) for seed, one in zip((1, 2), first, strict=True)]
    one, other = (read_run(write_run(tmp_path / f"again{run.seed}", run, ROWS)) for run in again)
    assert [run["seed"] for run in seeds_record(one, [other])["runs"]] == [1, 2]
    longer = write_run(tmp_path / "longer", replace(settings(), seed=3, ema=0.9), ROWS)
    for number, initial in enumerate((str(longer), str(tmp_path / "gone"), None)):
        run = replace(settings(), seed=3, initial=initial)
        stranger = read_run(write_run(tmp_path / f"stranger{number}", run, ROWS))
        with pytest.raises(ConfigError, match="by more than its seed"):
            seeds_record(one, [stranger])


def test_seeds_of_the_same_settings_may_come_of_recipes_of_other_names(run_folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "one", replace(settings(), recipe="ddamfn_ferplus_cpu", seed=5), ROWS)
    assert settings().recipe != "ddamfn_ferplus_cpu"
    assert [run["seed"] for run in seeds_record(read_run(run_folder), [read_run(other)])["runs"]] == [4, 5]


def test_command_line_tells_of_other_seeds(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 8)
    other = write_run(tmp_path / "one", replace(settings(), seed=5), [row(3, 112, 4)])
    asked = ["export", str(run_folder), "--name", "cli", "--output", str(tmp_path), "--quiet"]
    assert main([*asked, "--seeds", str(other)]) == 0
    assert "validation, by seed: 3 (seed 4), 4 (seed 5); 87.50%, deviation 17.68%" in capsys.readouterr().out


def test_file_that_fails_its_gate_is_not_left_behind(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> Comparison:
        return replace(compare(*arguments, **named), changed=1)  # type: ignore[arg-type]

    monkeypatch.setattr(export_weights, "compare", fail)
    with pytest.raises(WeightsError, match="fails its gate on 4 synthetic faces"):
        export_run(read_run(run_folder), "mine", tmp_path, least_faces=4)
    assert not list(tmp_path.iterdir())


def test_command_line_exports_and_says_what_it_measured(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thousand synthetic faces would take a while here.
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 8)
    assert main(["export", str(run_folder), "--name", "cli", "--output", str(tmp_path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "cli.onnx" in out
    assert "gate passed on 8 synthetic faces" in out
    assert main(["models"]) == 0


def test_command_line_takes_a_run_to_other_formats(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export_run.__kwdefaults__, "least_faces", 8)
    monkeypatch.setitem(convert.__kwdefaults__, "least_faces", 8)
    assert main(["export", str(run_folder), "--format", "safetensors", "--output", str(tmp_path), "--quiet"]) == 0
    # The name is the folder's and the format's where none is given.
    assert "gate passed on 8 synthetic faces" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-safetensors.json", "a-safetensors.safetensors"]
    images, trained = torch.randn(2, 3, 112, 112), read_run(run_folder).network
    for weights in (
        tmp_path / "a-safetensors.safetensors",
        run_folder,
        run_folder / "checkpoints" / "best.safetensors",
    ):
        loaded = load_network(weights)
        assert (loaded.labels, loaded.options) == (CLASSES, TINY.options)
        torch.testing.assert_close(loaded.network(images).logits, trained(images).logits)


def test_what_is_no_finished_run_is_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="below runs"):
        read_run(tmp_path / "none")
    with pytest.raises(UsageError, match="best and last"):
        read_run(run_folder, "first")  # type: ignore[arg-type]
    early = write_run(tmp_path / "early", settings(), ROWS[:1])
    with pytest.raises(TrainingError, match="no epoch yet"):
        read_run(early)
    wide = replace(settings(), data=replace(settings().data, alignment=Alignment("arcface", side_px=128)))
    with pytest.raises(ConfigError, match="trained at 112 px, and its crops have 128 px"):
        read_run(write_run(tmp_path / "wide", wide, ROWS))
    other = replace(settings(), model=replace(TINY, options={"num_heads": 3}))
    misfit = write_run(tmp_path / "misfit", settings(), ROWS)
    (misfit / "config.json").write_text(json.dumps(to_dict(other)))
    with pytest.raises(TrainingError, match="does not fit the network"):
        read_run(misfit)
