"""Distillation: Hinton's loss written out, and how it is weighed."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives import (
    CachedDistillation,
    Context,
    CrossEntropyObjective,
    DistillationLoss,
    LiveDistillation,
    SelfDistillation,
    SoftTargets,
    TrainingSplit,
)
from ddamfn.objectives.distillation import distillation_loss, feature_distance

SPLIT = TrainingSplit(classes=("neutral", "anger", "fear"), num_images=4)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_divergence_times_the_square_of_the_temperature() -> None:
    logits, temperature = draw(4, 3), 3.0
    wanted = draw(4, 3, seed=1).softmax(dim=1)
    total = 0.0
    for row, target in zip(logits.tolist(), wanted.tolist(), strict=True):
        sum_of = sum(math.exp(z / temperature) for z in row)
        total += sum(p * math.log(p / (math.exp(z / temperature) / sum_of)) for z, p in zip(row, target, strict=True))
    assert float(distillation_loss(logits, wanted, temperature)) == pytest.approx(total / 4 * 9, rel=1e-5)
    own = (logits / temperature).softmax(dim=1)
    assert float(distillation_loss(logits, own, temperature)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_labels_and_teachers_share_the_loss(weight: float) -> None:
    inner = CrossEntropyObjective().create_criterion(SPLIT)
    criterion = DistillationLoss(inner, LiveDistillation(teachers=("a",), weight=weight, temperature=2.0))
    features = draw(4, 5, 2, 2, seed=3)
    output = ModelOutput(draw(4, 3), features, features.new_zeros(4, 0, 1, 1, 1))
    soft_targets = SoftTargets(draw(4, 3, seed=1).softmax(dim=1), features)
    context, targets = Context(rows=torch.arange(4), epoch=0, soft_targets=soft_targets), torch.eye(3)[[0, 1, 2, 0]]
    loss = criterion(output, targets, context)
    hard, soft = (
        inner(output, targets, context).total,
        distillation_loss(output.logits, soft_targets.probabilities, 2.0),
    )
    torch.testing.assert_close(loss.total, (1 - weight) * hard + weight * soft)
    assert set(loss.parts) == {"cross_entropy", "distillation"}


def test_without_soft_targets_the_labels_count_alone() -> None:
    inner = CrossEntropyObjective().create_criterion(SPLIT)
    criterion = DistillationLoss(inner, SelfDistillation(weight=1.0))
    output = ModelOutput(draw(4, 3), draw(4, 5, 2, 2), draw(4, 0, 1, 1, 1))
    targets = torch.eye(3)[[0, 1, 2, 0]]
    loss, own = criterion(output, targets, Context(rows=torch.arange(4), epoch=0)), inner(output, targets)
    assert torch.equal(loss.total, own.total)
    assert set(loss.parts) == {"cross_entropy"}


def test_maps_are_compared_by_direction() -> None:
    features = draw(2, 5, 3, 3)
    assert float(feature_distance(features, 7 * features)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(features, -features)) == pytest.approx(2, abs=1e-6)
    with pytest.raises(ConfigError, match=r"^the teacher's map of features is \(6, 3, 3\), the student's \(5, 3, 3\);"):
        feature_distance(features, draw(2, 6, 3, 3))


def test_features_are_compared_where_that_is_asked_for() -> None:
    criterion = DistillationLoss(
        CrossEntropyObjective().create_criterion(SPLIT), LiveDistillation(teachers=("a",), features=0.5)
    )
    output = ModelOutput(draw(4, 3), draw(4, 5, 2, 2), draw(4, 0, 1, 1, 1))
    soft_targets = SoftTargets(draw(4, 3, seed=1).softmax(dim=1), draw(4, 5, 2, 2, seed=2))
    context, targets = Context(rows=torch.arange(4), epoch=0, soft_targets=soft_targets), torch.eye(3)[[0, 1, 2, 0]]
    loss = criterion(output, targets, context)
    rest = 0.5 * loss.parts["cross_entropy"] + 0.5 * loss.parts["distillation"]
    torch.testing.assert_close(loss.total, rest + 0.5 * loss.parts["features"])
    assert float(loss.parts["features"]) > 0


@pytest.mark.parametrize("kind", [LiveDistillation, CachedDistillation])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teachers": ()}, "at least one"),
        ({"teachers": ("a", "a")}, "duplicate"),
        ({"temperature": 0.0}, "temperature"),
        ({"weight": 1.5}, "weight"),
    ],
)
def test_teachers_and_numbers_out_of_range_are_refused(kind: Any, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**{"teachers": ("a",), **settings})


def test_features_are_learned_from_one_teacher() -> None:
    with pytest.raises(ConfigError, match="features"):
        LiveDistillation(teachers=("a",), features=-1.0)
    with pytest.raises(ConfigError, match="one teacher"):
        LiveDistillation(teachers=("a", "b"), features=1.0)
