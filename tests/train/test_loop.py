"""What a run learns, keeps and reports, on sixteen synthetic faces of 32 px."""

import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddamfn.errors import ConfigError, DataError, TrainingError
from ddamfn.evaluate import score
from ddamfn.models import create_network
from ddamfn.train import Run, fit, loop
from ddamfn.train.run_folder import load_state, load_weights_file
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit

Sums = dict[str, Tensor]
Splits = tuple[TensorSplit, TensorSplit]


def network_of(run: Run, path: Path, classes: int = 8) -> torch.nn.Module:
    network = create_network(run.model.name, num_classes=classes, **run.model.options)
    network.load_state_dict(load_weights_file(path))
    return network


@pytest.mark.usefixtures("whole_trunk")
def test_the_loss_begins_at_the_logarithm_of_the_number_of_classes(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = make_run(phases__0__epochs=1, objective__attention_weight=0, augment={"flip": 0}, model__options={})
    fit(run, splits[1], splits[1], tmp_path / "run", reporter)
    network = network_of(run, tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert sum(parameter.numel() for parameter in network.parameters()) > 4_000_000
    first = reporter.steps[0]
    # An untrained network is sure of nothing, but batch normalization gives its logits some spread.
    assert first[0] == 8
    assert first[1] == pytest.approx(math.log(8), abs=0.35)
    assert reporter.rows[0]["train"]["cross_entropy"] == pytest.approx(reporter.rows[0]["train"]["loss"])


@pytest.mark.slow
def test_sixteen_faces_are_learned_by_heart_in_two_dozen_steps(
    draw: Callable[..., TensorSplit], make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    faces = draw(2, seed=3)
    run = make_run(
        phases=[{"epochs": 12, "side_px": 32, "batch_size": 8}],
        augment={"flip": 0},
        checkpoint_steps=1000,
        ema=None,
    )
    assert len(faces) == 16
    fit(run, faces, draw(1, seed=4), tmp_path / "run", reporter)
    assert len(reporter.steps) == 24
    assert reporter.rows[-1]["train"]["accuracy"] > 0.95
    assert reporter.rows[-1]["train"]["cross_entropy"] < 0.3


@pytest.fixture(scope="module")
def finished(
    splits: Splits, make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path, list[dict[str, Any]]]:
    """A run of three epochs in two phases of two sizes, with a moving average."""
    run = make_run(
        phases=[
            {"epochs": 1, "side_px": 32, "batch_size": 16},
            {"epochs": 2, "side_px": 40, "batch_size": 8, "lr_factor": 2.0},
        ],
        data__alignment__side_px=40,
        ema=0.5,
    )
    folder = tmp_path_factory.mktemp("runs") / "two-phases"
    larger = [replace(part, images=_enlarge(part.images, 40)) for part in splits]
    rows: list[dict[str, Any]] = []

    class Keeper:
        def epoch_started(self, *_: int) -> None: ...

        def step_done(self, *_: Any) -> None: ...

        def epoch_done(self, row: dict[str, Any]) -> None:
            rows.append(row)

    outcome = fit(run, larger[0], larger[1], folder, Keeper())
    assert outcome.folder == folder
    assert outcome.last == rows[-1]
    return run, folder, rows


def _enlarge(images: Tensor, side_px: int) -> Tensor:
    return torch.nn.functional.interpolate(images.float(), size=(side_px, side_px)).byte()


def test_a_run_s_folder_holds_everything(finished: tuple[Run, Path, list[dict[str, Any]]]) -> None:
    run, folder, rows = finished
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        ".lock",
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints/state.pt",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
    }
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == rows
    result = json.loads((folder / "result.json").read_text())
    assert result["last"] == rows[-1]
    # Only epochs at the last size can be the best; of equal ones the first.
    assert result["best"] == max(rows[1:], key=lambda row: row["valid"]["accuracy"])
    assert json.loads((folder / "config.json").read_text())["phases"][1]["lr_factor"] == run.phases[1].lr_factor


def test_rows_say_what_happened(finished: tuple[Run, Path, list[dict[str, Any]]]) -> None:
    run, _, rows = finished
    assert [(row["epoch"], row["side_px"]) for row in rows] == [(1, 32), (2, 40), (3, 40)]
    for row in rows:
        assert row["train"]["n"] == 16
        assert row["valid"]["n"] == 8
        assert row["train"]["loss"] == pytest.approx(
            row["train"]["cross_entropy"] + run.objective.attention_weight * row["train"]["attention"], rel=1e-5
        )
        assert len(row["head_means"]) == 2
        assert all(0 < mean < 1 for mean in row["head_means"])
        assert row["head_difference"] > 0
        assert max(row["head_means"]) <= row["max_attention_mean"] < 1
        assert row["images_per_second"] == pytest.approx(16 / row["seconds"])
    # A cosine to 1 % over three epochs, doubled in the second phase.
    assert rows[-1]["lr"] == pytest.approx(2 * run.optimizer.lr * 0.01, rel=1e-3)


def test_the_kept_weights_answer_as_the_row_says(
    finished: tuple[Run, Path, list[dict[str, Any]]], splits: Splits
) -> None:
    run, folder, rows = finished
    valid = replace(splits[1], images=_enlarge(splits[1].images, 40))
    network = network_of(run, folder / "checkpoints" / "last.safetensors")
    outputs = evaluate_split(network, valid, run.data, 8)
    scores = score(outputs.logits.numpy(), valid.targets.numpy(), valid.classes)
    assert scores.to_dict()["confusion_matrix"] == rows[-1]["valid"]["confusion_matrix"]
    assert scores.nll == pytest.approx(rows[-1]["valid"]["nll"], rel=1e-4)
    assert outputs.head_means == pytest.approx(rows[-1]["head_means"], rel=1e-4)


def test_the_moving_average_is_what_is_kept(finished: tuple[Run, Path, list[dict[str, Any]]]) -> None:
    _, folder, _ = finished
    state = load_state(folder / "checkpoints" / "state.pt")
    kept = load_weights_file(folder / "checkpoints" / "last.safetensors")
    average = {name.removeprefix("module."): value for name, value in state["average"].items()}
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert not torch.equal(kept["ddan.classifier.weight"], state["network"]["ddan.classifier.weight"])
    assert int(state["average"]["n_averaged"]) == 5


def test_the_average_follows_its_rule(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    # Two steps: the average begins with the weights after the first, then a <- d a + (1 - d) w with d = 2 / 11.
    history: list[Tensor] = []
    whole = loop.train_step

    def spy(network: torch.nn.Module, *args: Any) -> Sums:
        sums = whole(network, *args)
        history.append(network.state_dict()["ddan.classifier.weight"].clone())
        return sums

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", spy)
        run = make_run(phases__0__epochs=1, ema=0.75)
        fit(run, *splits, tmp_path / "run", reporter)
    kept = load_weights_file(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert torch.allclose(kept["ddan.classifier.weight"], 2 / 11 * history[0] + 9 / 11 * history[1], atol=1e-7)


def test_the_reporter_is_told_every_step(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    fit(make_run(), *splits, tmp_path / "run", reporter)
    assert reporter.epochs == [(1, 2, 16, 0, 32), (2, 2, 16, 0, 32)]
    assert [step[0] for step in reporter.steps] == [8] * 4
    assert reporter.steps[1][1] == pytest.approx(reporter.rows[0]["train"]["loss"])
    assert reporter.steps[1][2] == pytest.approx(reporter.rows[0]["train"]["accuracy"])


def test_balanced_epochs_draw_rare_classes_more_often(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One class has one image, the other fourteen.
    images, keys = splits[0].images[:15], splits[0].keys[:15]
    targets = torch.eye(2)[torch.tensor([0] * 14 + [1])]
    train = TensorSplit(images, targets, keys, ("anger", "fear"))
    drawn: list[Tensor] = []
    whole = loop.train_step

    def spy(network: Any, criterion: Any, optimizer: Any, inputs: Tensor, targets: Tensor, *args: Any) -> Sums:
        drawn.append(targets)
        return whole(network, criterion, optimizer, inputs, targets, *args)

    monkeypatch.setattr(loop, "train_step", spy)
    run = make_run(data__balanced=True, phases__0__epochs=3)
    fit(run, train, train, tmp_path / "run", reporter)
    counts = torch.cat(drawn).sum(dim=0)
    assert counts.sum() == 45
    assert 10 <= counts[1] <= 35


@pytest.mark.parametrize("options", [{"num_heads": 0}, {"num_heads": 3, "coordinate_attention": False}])
def test_any_number_of_heads_trains(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, options: dict[str, int]
) -> None:
    run = make_run(model__options=options, phases__0__epochs=1, phases__0__batch_size=16)
    fit(run, *splits, tmp_path / "run", reporter)
    assert len(reporter.rows[0]["head_means"]) == options["num_heads"]


def test_the_backbone_alone_trains_with_sam(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = make_run(
        model={"name": "mfn"}, optimizer__sam_rho=0.05, phases__0__epochs=1, phases__0__batch_size=16, ema=None
    )
    fit(run, *splits, tmp_path / "run", reporter)
    assert reporter.rows[0]["head_means"] == []
    assert reporter.rows[0]["train"]["attention"] == 0


# ---------------------------------------------------------------- what goes wrong


def test_an_empty_class_ends_the_run_before_it_begins(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    train = splits[0].subset(torch.nonzero(splits[0].targets.argmax(dim=1) != 3).flatten())
    with pytest.raises(DataError, match="drawing 1: no image of sadness"):
        fit(make_run(), train, splits[1], tmp_path / "run", reporter)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_leaves_the_checkpoint_before(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.train_step

    def poisoned(network: torch.nn.Module, *args: Any) -> Sums:
        if len(reporter.steps) == 3:
            with torch.no_grad():
                next(network.parameters()).fill_(float("nan"))
        return whole(network, *args)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", poisoned)
        with pytest.raises(TrainingError) as caught:
            fit(make_run(), *splits, folder, reporter)
    for noun in (f"{folder}: ", "not finite in epoch 2, step 2", "state.pt is from before", "lower --set optimizer.lr"):
        assert noun in str(caught.value)
    state = load_state(folder / "checkpoints" / "state.pt")
    assert (state["epoch"], state["step"]) == (1, 1)
    assert all(bool(torch.isfinite(value).all()) for value in state["network"].values())
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    # Without the poison the run goes on from there.
    outcome = fit(make_run(), *splits, folder, reporter, resume=True)
    assert outcome.last["epoch"] == 2


def test_weights_that_overflow_behind_a_finite_loss_are_not_kept(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.train_step

    def overflowing(network: torch.nn.Module, *args: Any) -> Sums:
        sums = whole(network, *args)
        with torch.no_grad():
            next(network.parameters())[0] = float("inf")
        return sums

    monkeypatch.setattr(loop, "train_step", overflowing)
    with pytest.raises(TrainingError, match="in epoch 1, step 1; no checkpoint was written yet; "):
        fit(make_run(), *splits, tmp_path / "run", reporter)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_device_without_memory_is_told(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: Any) -> Sums:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(loop, "train_step", greedy)
    with pytest.raises(TrainingError, match=r"too little memory; .* --set phases\.0\.batch_size=4$"):
        fit(make_run(), *splits, tmp_path / "run", reporter)


def test_a_full_disk_leaves_a_run_that_resumes(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run, folder = os.fsync, make_run(), tmp_path / "run"
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 10:  # file and folder of two files at the beginning, a checkpoint after step 1, weights twice
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingError) as caught:
            fit(run, *splits, folder, reporter)
    assert str(caught.value).startswith(f"{folder}/checkpoints/state.pt: cannot be written")
    assert "the one before is whole" in str(caught.value)
    assert load_state(folder / "checkpoints" / "state.pt")["step"] == 1
    assert not list(folder.rglob("*.part"))
    assert fit(run, *splits, folder, reporter, resume=True).last["epoch"] == 2


def test_a_damaged_checkpoint_is_named(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    folder, run = tmp_path / "run", make_run(phases__0__epochs=1, phases__0__batch_size=16)
    fit(run, *splits, folder, reporter)
    state = folder / "checkpoints" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"state\.pt: cannot be read"):
        fit(run, *splits, folder, reporter, resume=True)


def test_a_finished_run_resumes_to_itself_and_another_does_not(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    folder, run = tmp_path / "run", make_run(phases__0__epochs=1, phases__0__batch_size=16)
    first = fit(run, *splits, folder, reporter)
    steps = len(reporter.steps)
    assert fit(run, *splits, folder, reporter, resume=True) == first
    assert len(reporter.steps) == steps
    with pytest.raises(ConfigError, match="different in seed"):
        fit(replace(run, seed=9), *splits, folder, reporter, resume=True)
    with pytest.raises(ConfigError, match="other images"):
        fit(run, splits[1], splits[0], folder, reporter, resume=True)
    with pytest.raises(ConfigError, match="add --resume"):
        fit(run, *splits, folder, reporter)


def test_equal_runs_end_with_equal_bits(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    weights = []
    for name in ("one", "two"):
        torch.rand(3)
        fit(make_run(phases__0__epochs=1), *splits, tmp_path / name, reporter)
        weights.append((tmp_path / name / "checkpoints" / "last.safetensors").read_bytes())
    assert weights[0] == weights[1]
    fit(make_run(phases__0__epochs=1, seed=1), *splits, tmp_path / "three", reporter)
    assert (tmp_path / "three" / "checkpoints" / "last.safetensors").read_bytes() != weights[0]


# ---------------------------------------------------------------- objectives


@pytest.mark.usefixtures("short_baselines")
@pytest.mark.parametrize(
    ("name", "options", "objective"),
    [("scn", {}, {}), ("dacl", {"attention_width": 32}, {"embedding_dim": 128}), ("dan", {}, {"embedding_dim": 128})],
)
def test_what_an_objective_learns_and_remembers_is_in_the_checkpoint(
    splits: Splits,
    make_run: Callable[..., Run],
    tmp_path: Path,
    reporter: Any,
    name: str,
    options: dict[str, int],
    objective: dict[str, int],
) -> None:
    model = {"name": name, "options": options}
    run = make_run(model=model, objective={"name": name, **objective}, phases__0__epochs=1, ema=None)
    assert run.objective.name == name
    fit(run, splits[1], splits[1], tmp_path / "run", reporter)
    criterion = run.objective.create_criterion(splits[1].describe())
    state = load_state(tmp_path / "run" / "checkpoints" / "state.pt")["criterion"]
    assert state
    criterion.load_state_dict(state)
    assert set(reporter.rows[0]["train"]) > {"loss", "cross_entropy", "accuracy", "n"}


def test_only_full_batches_go_through_the_compiled_network(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def compiled(network: torch.nn.Module, **_: Any) -> Callable[[Tensor], Any]:
        def call(images: Tensor) -> Any:
            sizes.append(len(images))
            return network(images)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    fit(make_run(compile=True, phases__0__batch_size=6, phases__0__epochs=1), *splits, tmp_path / "run", reporter)
    assert sizes == [6, 6]
    assert [step[0] for step in reporter.steps] == [6, 6, 4]
