"""Distillation: Hinton's loss written out, and how it is weighed."""

import math

import pytest
import torch
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives import Context, CrossEntropyObjective, Distillation, Lesson, TaughtCriterion, TrainingSplit
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
    criterion = TaughtCriterion(inner, Distillation(teachers=("a",), weight=weight, temperature=2.0))
    features = draw(4, 5, 2, 2, seed=3)
    output = ModelOutput(draw(4, 3), features, features.new_zeros(4, 0, 1, 1, 1))
    lesson = Lesson(draw(4, 3, seed=1).softmax(dim=1), features)
    context, targets = Context(rows=torch.arange(4), epoch=0, lesson=lesson), torch.eye(3)[[0, 1, 2, 0]]
    loss = criterion(output, targets, context)
    own, taught = inner(output, targets, context).total, distillation_loss(output.logits, lesson.probabilities, 2.0)
    torch.testing.assert_close(loss.total, (1 - weight) * own + weight * taught)
    assert set(loss.parts) == {"cross_entropy", "distillation"}


def test_without_a_lesson_the_labels_count_alone() -> None:
    inner = CrossEntropyObjective().create_criterion(SPLIT)
    criterion = TaughtCriterion(inner, Distillation(born_again=True, weight=1.0))
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teachers": ()}, "at least one"),
        ({"teachers": ("a", "a")}, "twice"),
        ({"teachers": ("a",), "temperature": 0.0}, "temperature"),
        ({"teachers": ("a",), "weight": 1.5}, "weight"),
        ({"teachers": ("a",), "features": -1.0}, "features"),
        ({"teachers": ("a", "b"), "features": 1.0}, "one teacher alone"),
        ({"teachers": ("a",), "once": True, "uncovered": True}, "leave out uncovered"),
        ({"teachers": ("a",), "once": True, "features": 1.0}, "leave out once"),
        ({"teachers": ("a",), "born_again": True}, "its own teacher"),
        ({"born_again": True, "once": True}, "asked once in any case"),
        ({"born_again": True, "uncovered": True}, "leave out uncovered"),
        ({"born_again": True, "features": 1.0}, "leave out born_again"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation(**settings)  # type: ignore[arg-type]
