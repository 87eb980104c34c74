"""The pretext tasks' losses against their papers' formulas, written out plainly."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives import (
    BarlowObjective,
    IdentityObjective,
    PretextCriterion,
    RotationObjective,
    SimSiamObjective,
    TrainingSplit,
)
from ddamfn.objectives.siamese import barlow_twins_loss, cross_correlation, negative_cosine, spread

SPLIT = TrainingSplit(classes=("neutral", "anger"), num_images=8)


def output_of(features: Tensor) -> ModelOutput:
    """A network's output with these features and nothing else of interest."""
    return ModelOutput(features.new_zeros(len(features), 2), features, features.new_zeros(len(features), 0, 1, 1, 1))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_barlow_twins_is_the_papers_formula() -> None:
    one, other = draw(6, 4).double(), draw(6, 4, seed=1).double()
    a, b = one - one.mean(dim=0), other - other.mean(dim=0)
    invariance = redundancy = 0.0
    for i in range(4):
        for j in range(4):
            above = sum(float(a[n, i] * b[n, j]) for n in range(6))
            lengths = math.sqrt(sum(float(a[n, i]) ** 2 for n in range(6))) * math.sqrt(
                sum(float(b[n, j]) ** 2 for n in range(6))
            )
            if i == j:
                invariance += (1 - above / lengths) ** 2
            else:
                redundancy += (above / lengths) ** 2
    got = barlow_twins_loss(one, other)
    assert float(got[0]) == pytest.approx(invariance, rel=1e-4)
    assert float(got[1]) == pytest.approx(redundancy, rel=1e-4)


def test_equal_views_without_redundancy_cost_nothing() -> None:
    views = torch.linalg.qr(draw(16, 4) - draw(16, 4).mean(dim=0))[0]
    views = torch.linalg.qr(views - views.mean(dim=0))[0] * 100
    torch.testing.assert_close(cross_correlation(views, views), torch.eye(4), atol=1e-4, rtol=0)


def test_barlow_weighs_redundancy() -> None:
    torch.manual_seed(0)
    criterion = BarlowObjective(channels=3, width=5, redundancy_weight=0.25).create_criterion(SPLIT)
    loss = criterion(output_of(draw(12, 3, 2, 2)), torch.zeros(6, 0))
    total = loss.parts["invariance"] + 0.25 * loss.parts["redundancy"]
    torch.testing.assert_close(loss.total.detach(), total)


def test_simsiam_sends_no_gradient_through_the_projection() -> None:
    prediction, projection = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    loss = negative_cosine(prediction, projection)
    loss.backward()
    assert projection.grad is None
    assert prediction.grad is not None
    cosines = [
        float(p @ z / p.norm() / z.norm()) for p, z in zip(prediction.detach(), projection.detach(), strict=True)
    ]
    assert loss.item() == pytest.approx(-sum(cosines) / 4, rel=1e-5)


def test_simsiam_trains_the_network_through_the_predictor_alone() -> None:
    torch.manual_seed(0)
    criterion = SimSiamObjective(channels=3, width=4, bottleneck=2).create_criterion(SPLIT)
    features = draw(12, 3, 2, 2).requires_grad_()
    criterion(output_of(features), torch.zeros(6, 0)).total.backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    for parameter in criterion.predictor.parameters():
        torch.nn.init.zeros_(parameter)
    again = draw(12, 3, 2, 2).requires_grad_()
    # A predictor that says the same of all images passes nothing on, and nothing takes another way.
    criterion(output_of(again), torch.zeros(6, 0)).total.backward()
    assert again.grad is None or float(again.grad.abs().sum()) == 0


def test_spread_tells_a_collapse() -> None:
    assert float(spread(torch.ones(8, 16))) == 0
    assert float(spread(draw(4000, 16))) == pytest.approx(1, abs=0.02)


def test_rotation_shows_every_image_in_four_turns_and_knows_which_is_which() -> None:
    criterion = RotationObjective(channels=3).create_criterion(SPLIT)
    images = draw(2, 3, 4, 4)
    views = criterion.views(images, lambda batch: batch)
    assert views.shape == (8, 3, 4, 4)
    for turn in range(4):
        for image in range(2):
            torch.testing.assert_close(views[2 * turn + image], images[image].rot90(turn, (1, 2)))
    torch.nn.init.zeros_(criterion.classifier.weight)
    torch.nn.init.zeros_(criterion.classifier.bias)
    with torch.no_grad():
        criterion.classifier.weight[:3] = 10 * torch.eye(3)
        criterion.classifier.bias[3] = 5
    features = torch.cat([torch.eye(3), torch.zeros(1, 3)]).repeat_interleave(2, dim=0)[:, :, None, None]
    assert criterion(output_of(features), torch.zeros(2, 0)).total.item() < 0.05
    num_correct = criterion.num_correct(output_of(features), torch.zeros(2, 0))
    assert num_correct is not None
    assert float(num_correct) == 2
    assert float(criterion.num_correct(output_of(features.flip(0)), torch.zeros(2, 0)) or 0) == 0


@pytest.mark.parametrize("loss", ["cosine", "squared"])
def test_identity_compares_with_the_embeddings(loss: str) -> None:
    torch.manual_seed(0)
    criterion = IdentityObjective(channels=3, embedding_dim=4, loss=loss).create_criterion(SPLIT)  # type: ignore[arg-type]
    features, wanted = draw(5, 3, 2, 2), draw(5, 4, seed=1)
    got = criterion(output_of(features), wanted)
    embedding = criterion.head(features.mean(dim=(2, 3)))
    squared = ((embedding - wanted) ** 2).sum(dim=1).mean()
    cosine = (F.normalize(embedding, dim=1) * F.normalize(wanted, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(got.total, 1 - cosine if loss == "cosine" else squared)


@pytest.mark.parametrize("objective", [BarlowObjective(), SimSiamObjective()])
def test_two_views_are_changed_apart(objective: BarlowObjective | SimSiamObjective) -> None:
    criterion: PretextCriterion = objective.create_criterion(SPLIT)
    numbers = iter((1.0, 2.0))
    views = criterion.views(torch.zeros(3, 1, 2, 2), lambda images: images + next(numbers))
    assert views[:3].unique().tolist() == [1.0]
    assert views[3:].unique().tolist() == [2.0]


def test_a_map_of_another_width_is_told_in_one_line() -> None:
    criterion = RotationObjective(channels=3).create_criterion(SPLIT)
    with pytest.raises(ConfigError, match=r"^the network's map has 5 channels, not 3; --set objective.channels=5$"):
        criterion(output_of(draw(8, 5, 1, 1)), torch.zeros(2, 0))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BarlowObjective, {"width": 0}),
        (BarlowObjective, {"redundancy_weight": -1.0}),
        (SimSiamObjective, {"bottleneck": 0}),
        (RotationObjective, {"channels": 0}),
        (IdentityObjective, {"loss": "angle"}),
    ],
)
def test_numbers_out_of_range_are_refused(kind: type, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        kind(**settings)
