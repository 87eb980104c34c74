"""Trunks that learn without labels: what they see, what is kept, and that a stop changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.preparation import Prepared
from ddamfn.train import Run, fit, load_faces
from ddamfn.train.run_folder import load_state, load_weights_file, read_run
from ddamfn.train.tensorset import TensorSplit

CPU = torch.device("cpu")
TASKS: dict[str, dict[str, Any]] = {
    "barlow": {"name": "barlow", "width": 16},
    "simsiam": {"name": "simsiam", "width": 16, "bottleneck": 8},
    "rotation": {"name": "rotation"},
    "identity": {"name": "identity", "embedding_dim": 3},
}


class Stop(Exception):
    """Stands for a kill between two steps."""


def unlabeled(split: TensorSplit, targets: torch.Tensor | None = None) -> TensorSplit:
    wanted = torch.zeros(len(split), 0) if targets is None else targets
    return TensorSplit(split.images, wanted, split.keys, split.classes)


def colors(split: TensorSplit) -> torch.Tensor:
    """Stand-ins for embeddings: (N, 3)."""
    return split.images.float().mean(dim=(2, 3)) / 255


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_ends_with_the_same_bits(
    task: str, splits: tuple[TensorSplit, TensorSplit], make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = make_run(objective=TASKS[task], phases__0__epochs=1, phases__0__batch_size=4, ema=0.5)
    faces = unlabeled(splits[0], colors(splits[0]) if task == "identity" else None)
    outcome = fit(run, faces, None, tmp_path / "whole", reporter)
    assert outcome.best == outcome.last
    assert "valid" not in outcome.last
    assert ("accuracy" in outcome.last["train"]) == (task == "rotation")

    class Stopping(type(reporter)):  # type: ignore[misc]
        def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
            super().step_done(images, loss, accuracy)
            if len(self.steps) == 3:
                raise Stop

    with pytest.raises(Stop):
        fit(run, faces, None, tmp_path / "stopped", Stopping())
    fit(run, faces, None, tmp_path / "stopped", reporter, resume=True)
    whole, resumed = (load_state(tmp_path / name / "checkpoints" / "state.pt") for name in ("whole", "stopped"))
    for part in ("network", "average", "criterion"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(tensor, resumed[part][name]) for name, tensor in whole[part].items())
    one, other = ((tmp_path / n / "checkpoints" / "trunk.safetensors").read_bytes() for n in ("whole", "stopped"))
    assert one == other


def test_the_trunk_alone_is_kept_and_the_head_is_learned(
    splits: tuple[TensorSplit, TensorSplit], make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = make_run(objective=TASKS["rotation"], phases__0__epochs=1)
    fit(run, unlabeled(splits[0]), None, tmp_path / "run", reporter)
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["state.pt", "trunk.safetensors"]
    trunk, state = load_weights_file(folder / "trunk.safetensors"), load_state(folder / "state.pt")
    assert {name.split(".")[0] for name in trunk} == {"trunk"}
    assert all(torch.equal(tensor, state["network"][name]) for name, tensor in trunk.items())
    assert set(state["criterion"]) == {"classifier.weight", "classifier.bias"}
    with pytest.raises(TrainingError, match=r"trained a trunk by rotation, without a class; begin a run with it"):
        read_run(tmp_path / "run")


def test_rotation_is_learned_in_some_steps(
    draw: Callable[..., TensorSplit], make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = make_run(
        objective=TASKS["rotation"],
        phases=[{"epochs": 4, "side_px": 32, "batch_size": 8}],
        schedule={"name": "constant"},
        augment={"flip": 0.5},
        checkpoint_steps=1000,
    )
    fit(run, unlabeled(draw(4, seed=3)), None, tmp_path / "run", reporter)
    # Chance is a quarter: of 32 images in four turns each.
    assert reporter.rows[-1]["train"]["accuracy"] > 0.6
    assert reporter.steps[-1][2] == pytest.approx(reporter.rows[-1]["train"]["accuracy"])


def test_only_training_images_are_seen(prepared: Prepared, make_run: Callable[..., Run]) -> None:
    run = make_run(objective=TASKS["barlow"], data__alignment__side_px=64)
    faces = load_faces(prepared, run, CPU)
    wanted = prepared.split("train", None)
    assert faces.keys == tuple(wanted.keys)
    assert faces.targets.shape == (len(wanted), 0)
    assert faces.classes == prepared.classes
    np.testing.assert_array_equal(faces.images[3].permute(1, 2, 0).numpy(), wanted.crops[3])


def test_images_that_would_be_held_out_are_not_seen(
    prepared: Prepared, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddamfn.train import load_splits

    # Such as a set of class folders alone.
    monkeypatch.setattr("ddamfn.train.splits.own_validation", lambda prepared: None)
    monkeypatch.setattr("ddamfn.train.pretraining.own_validation", lambda prepared: None)
    run = make_run(objective=TASKS["barlow"], data__alignment__side_px=64, data__holdout=0.3, seed=4)
    faces = load_faces(prepared, run, CPU)
    train, valid = load_splits(prepared, run, CPU)
    assert len(valid) > 0
    assert set(faces.keys) == set(train.keys)


def test_embeddings_are_the_targets_of_the_identity_task(prepared: Prepared, make_run: Callable[..., Run]) -> None:
    class Fake:
        name, dim = "fake-for-training", 3

        def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
            return chips.mean(axis=(1, 2), dtype=np.float32)

    run = make_run(objective=TASKS["identity"], data__alignment__side_px=64)
    faces = load_faces(prepared, run, CPU, embedder=Fake())
    assert faces.targets.shape == (len(faces), 3)
    means = faces.images.float().mean(dim=(2, 3))
    # A chip shows most of its crop.
    assert float((faces.targets - means).abs().mean()) < 30


def test_labels_and_pretext_tasks_are_not_confused(
    splits: tuple[TensorSplit, TensorSplit], make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    with pytest.raises(ConfigError, match=r"^the objective rotation takes no labeled images"):
        fit(make_run(objective=TASKS["rotation"]), *splits, tmp_path / "one", reporter)
    with pytest.raises(ConfigError, match=r"^the objective ddamfn needs labeled images"):
        fit(make_run(), splits[0], None, tmp_path / "two", reporter)
    for more in (
        {"data__balanced": True},
        {"augment__mixup": 0.2},
        {"distillation": {"teachers": ["a"]}},
    ):
        with pytest.raises(ConfigError, match=r"^barlow is a pretext task without labels: leave out"):
            make_run(objective=TASKS["barlow"], **more)
