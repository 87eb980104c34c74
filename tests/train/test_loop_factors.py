"""All factors at once: what a run learns from, and that a stopped run ends with the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ddamfn.errors import ConfigError
from ddamfn.objectives import Context
from ddamfn.train import Run, fit, loop
from ddamfn.train.config import Model, to_dict
from ddamfn.train.run_folder import load_state, save_state, write_json
from ddamfn.train.tensorset import TensorSplit

Splits = tuple[TensorSplit, TensorSplit]

EVERYTHING: dict[str, Any] = {
    "augment__mixup": 0.4,
    "augment__cutmix": 1.0,
    "augment__erase": 0.5,
    "objective__logit_adjustment": 1.0,
    "objective__prior_smoothing": 0.2,
    "objective__label_smoothing": 0.1,
    "objective__flip_consistency": 5.0,
    "model__options__drop_path": 0.3,
    "optimizer__sam_rho": 0.05,
    "ema": 0.99,
    "precise_bn": 12,
}


@pytest.fixture
def weighted(splits: Splits) -> Splits:
    """The drawn splits, with weights for training."""
    train, valid = splits
    return train.weighted(torch.linspace(0.3, 1.0, len(train))), valid


class Stopped(Exception):
    """A kill in the middle of a step."""


def test_a_stopped_run_with_every_factor_ends_with_the_same_bits(
    weighted: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(**EVERYTHING)
    fit(run, *weighted, tmp_path / "whole", reporter)
    whole, calls = loop.train_step, []

    def stopping(*args: Any) -> Any:
        calls.append(1)
        if len(calls) in (2, 5):
            raise Stopped
        return whole(*args)

    monkeypatch.setattr(loop, "train_step", stopping)
    for _ in range(2):
        with pytest.raises(Stopped):
            fit(run, *weighted, tmp_path / "stopped", reporter, resume=True)
    fit(run, *weighted, tmp_path / "stopped", reporter, resume=True)
    for name in ("last", "best"):
        one, other = (tmp_path / folder / "checkpoints" / f"{name}.safetensors" for folder in ("whole", "stopped"))
        assert one.read_bytes() == other.read_bytes()
    assert set(reporter.rows[0]["train"]) > {"cross_entropy", "attention", "flip_consistency"}
    assert all(row["train"]["flip_consistency"] > 0 for row in reporter.rows)
    averages = [
        load_state(tmp_path / folder / "checkpoints" / "state.pt")["average"] for folder in ("whole", "stopped")
    ]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])


def test_what_the_step_is_given(
    weighted: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[torch.Tensor, Context]] = []
    whole = loop.train_step

    def spy(network: Any, criterion: Any, optimizer: Any, inputs: Any, targets: Any, context: Any, *rest: Any) -> Any:
        given.append((targets, context))
        return whole(network, criterion, optimizer, inputs, targets, context, *rest)

    monkeypatch.setattr(loop, "train_step", spy)
    train, valid = weighted
    fit(make_run(phases__0__epochs=1, ema=None), train, valid, tmp_path / "plain", reporter)
    assert train.weights is not None
    for targets, context in given:
        assert torch.equal(targets, train.targets[context.rows])
        assert context.weights is not None
        assert torch.equal(context.weights, train.weights[context.rows])
    given.clear()
    unweighted = replace(train, weights=None)
    fit(make_run(phases__0__epochs=1, augment__mixup=1.0), unweighted, valid, tmp_path / "mixed", reporter)
    assert all(context.weights is None for _, context in given)
    assert any((targets.max(dim=1).values < 0.99).any() for targets, _ in given)


def test_a_network_without_class_maps_is_refused(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    run = replace(make_run(objective__flip_consistency=5.0), model=Model(name="mfn"))
    with pytest.raises(
        ConfigError, match=r"^objective\.flip_consistency needs .* and mfn gives none; choose model\.name"
    ):
        fit(run, *splits, tmp_path / "run", reporter)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="needs a network with class maps"):
        make_run(model={"name": "mfn"}, objective__flip_consistency=5.0)


def test_the_prior_is_that_of_the_weighted_training_split(weighted: Splits) -> None:
    train, _ = weighted
    assert train.weights is not None
    described = train.describe()
    assert described.classes == train.classes
    assert described.num_images == 16
    assert described.class_shares is not None
    expected = (train.weights[:, None] * train.targets).sum(dim=0) / 16
    assert described.class_shares == pytest.approx(expected.tolist(), rel=1e-5)
    assert replace(train, weights=None).describe().class_shares == pytest.approx([1 / 8] * 8)


def test_a_run_from_before_there_were_factors_goes_on(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    """Its configuration lacks the settings, and its checkpoint's criterion is empty."""
    run, folder = make_run(ema=0.9), tmp_path / "run"
    fit(run, *splits, folder, reporter)
    plain = to_dict(run)
    for part, names in {
        "augment": ("mixup", "cutmix"), "data": ("vote_weight",),
        "objective": ("prior_smoothing", "logit_adjustment", "flip_consistency"),
    }.items():  # fmt: skip
        for name in names:
            del plain[part][name]
    write_json(plain, folder / "config.json")
    path = folder / "checkpoints" / "state.pt"
    state = load_state(path)
    assert state["criterion"] == {}
    assert set(state) == {
        "network", "average", "criterion", "optimizer", "epoch", "step", "seconds", "sums", "best", "last",
        "teacher",
    }  # fmt: skip
    save_state({**state, "epoch": 1, "step": 1, "last": None}, path)
    assert fit(run, *splits, folder, reporter, resume=True).last["epoch"] == 2
    with pytest.raises(ConfigError, match=r"different in augment\.mixup"):
        fit(make_run(ema=0.9, augment__mixup=0.2), *splits, folder, reporter, resume=True)
