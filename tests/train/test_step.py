import math

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import ModelOutput, create_network
from ddamfn.objectives import Context, Criterion, DDAMFNObjective, TrainingSplit
from ddamfn.train import Data, Optimizer
from ddamfn.train.optim import build_optimizer
from ddamfn.train.step import evaluate_split, train_step
from ddamfn.train.tensorset import TensorSplit

CONTEXT = Context(rows=torch.arange(4), epoch=0)


def criterion(attention_weight: float) -> Criterion:
    objective = DDAMFNObjective(attention_weight=attention_weight)
    return objective.create_criterion(TrainingSplit(classes=("neutral", "happiness"), num_images=4))


class Linear(nn.Module):
    """A linear classifier of the first pixel's colors, with two heads of known maps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, bias=False)
        nn.init.constant_(self.layer.weight, 0.1)

    def forward(self, images: Tensor) -> ModelOutput:
        maps = torch.stack([torch.full((len(images), 4, 7, 7), value) for value in (0.25, 0.75)], dim=1)
        return ModelOutput(self.layer(images[:, :, 0, 0]), images, maps)


def batch() -> tuple[Tensor, Tensor]:
    images = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 1]]).view(4, 3, 1, 1)
    return images, torch.eye(2)[torch.tensor([0, 1, 0, 1])]


def gradient(weight: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy: (softmax - target)^T x / B."""
    images, targets = batch()
    pixels = images[:, :, 0, 0]
    return (torch.softmax(pixels @ weight.T, dim=1) - targets).T @ pixels / len(pixels)


def test_a_step_tells_sums_over_the_batch() -> None:
    network = Linear()
    optimizer = build_optimizer(Optimizer(lr=0.1, momentum=0.0, weight_decay=0.0), network.parameters())
    weight = network.layer.weight.detach().clone()
    sums = train_step(network, criterion(0.5), optimizer, *batch(), CONTEXT, None)
    cross_entropy = 4 * math.log(2)
    # Two heads half apart: mean squared difference 1/4, loss 4.
    expected = {
        "loss": cross_entropy + 0.5 * 16,
        "cross_entropy": cross_entropy,
        "attention": 16,
        "num_correct": 2,
        "n": 4,
    }
    assert {name: float(value) for name, value in sums.items()} == pytest.approx(expected)
    assert torch.allclose(network.layer.weight, weight - 0.1 * gradient(weight), atol=1e-6)


@pytest.mark.parametrize("rho", [None, 0.05])
def test_the_gradient_that_updates_is_clipped(rho: float | None) -> None:
    network = Linear()
    weight = network.layer.weight.detach().clone()
    optimizer = build_optimizer(Optimizer(lr=1.0, momentum=0.0, weight_decay=0.0, sam_rho=rho), network.parameters())
    train_step(network, criterion(0.0), optimizer, *batch(), CONTEXT, 0.01)
    direction = gradient(weight)
    if rho is not None:
        direction = gradient(weight + rho * direction / direction.norm())
    assert direction.norm() > 0.1
    assert torch.allclose(network.layer.weight, weight - 0.01 * direction / direction.norm(), atol=1e-6)


def test_a_generous_limit_changes_nothing() -> None:
    weights = []
    for limit in (None, 100.0):
        network = Linear()
        optimizer = build_optimizer(Optimizer(lr=1.0, momentum=0.0, weight_decay=0.0), network.parameters())
        train_step(network, criterion(0.0), optimizer, *batch(), CONTEXT, limit)
        weights.append(network.layer.weight.detach())
    assert torch.equal(*weights)


def test_outputs_do_not_depend_on_the_batch(splits: tuple[TensorSplit, TensorSplit]) -> None:
    torch.manual_seed(0)
    network = create_network("ddamfn", num_classes=8)
    one, other = (evaluate_split(network, splits[1], Data(), size) for size in (8, 3))
    assert one.logits.shape == (8, 8)
    assert torch.allclose(one.logits, other.logits, atol=1e-5)
    assert one.head_means == pytest.approx(other.head_means, abs=1e-6)
    assert one.head_difference == pytest.approx(other.head_difference, rel=1e-4)
    assert not network.training


def test_outputs_tell_how_the_heads_stand() -> None:
    images, targets = torch.zeros(5, 3, 1, 1, dtype=torch.uint8), torch.eye(2)[torch.zeros(5, dtype=torch.int64)]
    outputs = evaluate_split(Linear(), TensorSplit(images, targets, tuple("abcde"), ("a", "b")), Data(), 2)
    assert outputs.head_means == pytest.approx([0.25, 0.75])
    assert outputs.head_difference == pytest.approx(0.25)
    assert outputs.max_attention_mean == pytest.approx(0.75)


@pytest.mark.parametrize(("name", "options", "heads"), [("mfn", {}, 0), ("ddamfn", {"num_heads": 1}, 1)])
def test_networks_without_a_pair_of_heads_have_no_difference(name: str, options: dict[str, int], heads: int) -> None:
    images, targets = torch.zeros(2, 1, 32, 32, dtype=torch.uint8), torch.eye(2)
    network = create_network(name, num_classes=2, **options)
    outputs = evaluate_split(network, TensorSplit(images, targets, ("a", "b"), ("a", "b")), Data(), 2)
    assert len(outputs.head_means) == heads
    assert outputs.head_difference == 0
    assert outputs.max_attention_mean == pytest.approx(sum(outputs.head_means))


class Located(nn.Module):
    """A network that says of each pixel what it adds to each logit; `sided` adds something on the left alone."""

    def __init__(self, *, sided: bool) -> None:
        super().__init__()
        self.sides = nn.Parameter(torch.ones(2, 1, 4) * torch.tensor([1.0, 0, 0, 0] if sided else [1.0, 1, 1, 1]))
        self.sizes: list[int] = []

    def forward(self, images: Tensor, *, class_maps: bool = False) -> ModelOutput:
        self.sizes.append(len(images))
        maps = images[:, :2] * self.sides
        extra = {"class_maps": maps} if class_maps else {}
        return ModelOutput(maps.sum(dim=(2, 3)), images, images.new_empty((len(images), 0, 3, 4, 4)), extra)


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("sided", [False, True])
def test_mirror_images_pass_beside_the_images(rho: float | None, sided: bool) -> None:
    network = Located(sided=sided)
    optimizer = build_optimizer(Optimizer(lr=0.1, momentum=0.0, weight_decay=0.0, sam_rho=rho), network.parameters())
    objective = DDAMFNObjective(attention_weight=0, flip_consistency=5.0)
    judge = objective.create_criterion(TrainingSplit(classes=("neutral", "happiness"), num_images=4))
    images, targets = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), batch()[1]
    expected = torch.nn.functional.cross_entropy(network(images).logits, targets)
    network.sizes.clear()
    sums = train_step(network, judge, optimizer, images, targets, CONTEXT, None)
    assert network.sizes == [8] * (1 if rho is None else 2)
    assert float(sums["cross_entropy"]) == pytest.approx(4 * float(expected.detach()))
    # A network without sides is consistent whatever the image.
    assert (float(sums["flip_consistency"]) == 0) != sided
    assert float(sums["loss"]) == pytest.approx(float(sums["cross_entropy"] + 5 * sums["flip_consistency"]))
    assert float(sums["n"]) == 4


def test_without_the_factor_no_mirror_image_passes() -> None:
    network = Located(sided=True)
    optimizer = build_optimizer(Optimizer(), network.parameters())
    train_step(network, criterion(0.0), optimizer, torch.randn(4, 3, 4, 4), batch()[1], CONTEXT, None)
    assert network.sizes == [4]


def test_consistency_makes_a_sided_network_forget_its_sides() -> None:
    network = Located(sided=True)
    optimizer = build_optimizer(Optimizer(lr=5e-3, momentum=0.0, weight_decay=0.0), network.parameters())
    judge = DDAMFNObjective(attention_weight=0, flip_consistency=5.0).create_criterion(
        TrainingSplit(classes=("neutral", "happiness"), num_images=4)
    )
    images, seen = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), []
    for _ in range(60):
        sums = train_step(network, judge, optimizer, images, batch()[1], CONTEXT, None)
        seen.append(float(sums["flip_consistency"]))
    assert seen[-1] < 0.01 * seen[0]
