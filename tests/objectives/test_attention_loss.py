"""The attention loss in its two forms, against plain loops; and the cross-entropy beside it."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.models.ddamfn import DDAN
from ddamfn.objectives import DDAMFNObjective, Loss, TrainingSplit, attention_loss, head_means, soft_cross_entropy


def _maps(heads: int, batch: int = 3, channels: int = 4, side: int = 5) -> Tensor:
    return torch.rand(batch, heads, channels, side, side)


def _naive_mse(a: Tensor, b: Tensor) -> float:
    total = 0.0
    for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True):
        total += (x - y) ** 2
    return total / a.numel()


def _naive(attention: Tensor, form: str) -> float:
    heads = range(attention.shape[1])
    if form == "mean_pair":
        pairs = [_naive_mse(attention[:, i], attention[:, k]) for i in heads for k in heads if i < k]
        return len(pairs) / sum(pairs)
    return 1 / sum(_naive_mse(attention[:, i], attention[:, k]) for i in heads for k in heads if i != k)


@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
@pytest.mark.parametrize("heads", [2, 3, 4])
def test_forms_agree_with_a_double_loop(form: str, heads: int) -> None:
    attention = _maps(heads)
    assert attention_loss(attention, form).item() == pytest.approx(_naive(attention, form), rel=1e-5)


@pytest.mark.parametrize(("heads", "factor"), [(2, 2), (3, 6), (4, 12)])
def test_the_authors_form_is_the_printed_one_times_the_number_of_ordered_pairs(heads: int, factor: int) -> None:
    attention = _maps(heads)
    ratio = attention_loss(attention) / attention_loss(attention, "slide_sum")
    assert ratio.item() == pytest.approx(factor, rel=1e-6)


def test_independent_uniform_maps_give_six() -> None:
    """Two independent numbers, uniform in (0, 1), differ by 1/6 in the mean square, whatever the number of heads."""
    for heads in (2, 4):
        assert attention_loss(torch.rand(64, heads, 32, 7, 7)).item() == pytest.approx(6.0, rel=0.02)


def test_opposite_maps_give_the_least_loss() -> None:
    attention = torch.stack([torch.ones(2, 4, 5, 5), torch.zeros(2, 4, 5, 5)], dim=1)
    assert attention_loss(attention).item() == 1.0
    assert attention_loss(_maps(2)).item() > 1.0
    assert head_means(attention).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("heads", [0, 1])
@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
def test_fewer_than_two_heads_have_nothing_to_keep_apart(heads: int, form: str) -> None:
    loss = attention_loss(_maps(heads).bfloat16(), form)
    assert loss.item() == 0.0
    assert loss.dtype == torch.float32
    assert head_means(_maps(heads)).shape == (heads,)


@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
@pytest.mark.parametrize("heads", [2, 3])
def test_equal_maps_stay_finite(form: str, heads: int) -> None:
    attention = _maps(1).repeat(1, heads, 1, 1, 1).requires_grad_()
    loss = attention_loss(attention, form)
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss.item() > attention_loss(_maps(heads), form).item()
    assert attention.grad is not None
    assert torch.isfinite(attention.grad).all()


@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4, 1e-8])
def test_nearly_equal_maps_have_finite_gradients(difference: float) -> None:
    base = _maps(1)
    attention = torch.cat([base, base + difference * torch.randn_like(base)], dim=1).requires_grad_()
    attention_loss(attention).backward()
    assert attention.grad is not None
    assert torch.isfinite(attention.grad).all()


def test_half_precision_is_computed_in_float32() -> None:
    attention = _maps(2).bfloat16()
    loss = attention_loss(attention)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(_naive(attention.double(), "mean_pair"), rel=1e-5)
    assert head_means(attention).dtype == torch.float32


def test_autocast_does_not_lower_the_precision() -> None:
    # A linear layer makes maps of bfloat16 inside autocast, as a network does; the loss must come out of it in float32.
    layer = nn.Linear(5, 5)
    inputs = _maps(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = torch.sigmoid(layer(inputs))
        assert maps.dtype == torch.bfloat16
        loss = attention_loss(maps)
        cross_entropy = soft_cross_entropy(maps[:, 0, 0, 0], torch.full((3, 5), 0.2))
    assert loss.dtype == cross_entropy.dtype == torch.float32
    assert loss.item() == pytest.approx(_naive(maps.double(), "mean_pair"), rel=1e-4)
    loss.backward()
    assert layer.weight.grad is not None
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
def test_the_gradient_is_the_derivative(form: str) -> None:
    attention = _maps(3, batch=2, channels=2, side=2).requires_grad_()
    attention_loss(attention, form).backward()
    assert attention.grad is not None
    step = torch.zeros_like(attention)
    step[1, 2, 0, 1, 0] = 1e-3
    with torch.no_grad():
        rise = _naive(attention.double() + step, form) - _naive(attention.double() - step, form)
    assert attention.grad[1, 2, 0, 1, 0].item() == pytest.approx(rise / 2e-3, rel=1e-3)


@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
def test_a_few_steps_drive_the_heads_apart(form: str) -> None:
    head = DDAN(channels=64, num_classes=7, num_heads=3)
    features = torch.randn(8, 64, 7, 7)
    # With three heads the printed form is six times weaker, so it needs steps six times longer.
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01 if form == "mean_pair" else 0.06)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = attention_loss(head(features)[1], form)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.8 * losses[0]


def test_head_means_are_of_each_head_and_carry_no_gradient() -> None:
    attention = _maps(3).requires_grad_()
    means = head_means(attention)
    assert means.tolist() == pytest.approx([attention[:, h].mean().item() for h in range(3)], rel=1e-6)
    assert not means.requires_grad


def test_an_unknown_form_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="mean_pair, slide_sum, not 'sum'"):
        attention_loss(_maps(2), "sum")  # type: ignore[arg-type]


# ---------------------------------------------------------------- the whole objective


def _output(heads: int = 2) -> ModelOutput:
    return ModelOutput(torch.randn(3, 7, requires_grad=True), torch.randn(3, 4, 5, 5), _maps(heads))


def _judge(objective: DDAMFNObjective, output: ModelOutput, targets: Tensor) -> Loss:
    return objective.create_criterion(TrainingSplit(classes=tuple("abcdefg"), num_images=3))(output, targets)


def _one_hot() -> Tensor:
    return nn.functional.one_hot(torch.tensor([0, 3, 6]), 7).float()


@pytest.mark.parametrize("form", ["mean_pair", "slide_sum"])
@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_the_total_is_the_weighted_sum(form: str, weight: float) -> None:
    output, targets = _output(), _one_hot()
    loss = _judge(DDAMFNObjective(attention_weight=weight, attention_form=form), output, targets)
    classification = nn.functional.cross_entropy(output.logits, targets)
    apart = attention_loss(output.attention, form)
    torch.testing.assert_close(loss.total, classification + weight * apart)
    torch.testing.assert_close(loss.parts, {"cross_entropy": classification.detach(), "attention": apart})
    loss.total.backward()
    assert output.logits.grad is not None


def test_the_default_is_the_papers() -> None:
    assert DDAMFNObjective() == DDAMFNObjective(attention_weight=0.1, attention_form="mean_pair", label_smoothing=0.0)


def test_a_network_without_heads_has_cross_entropy_alone() -> None:
    output = _output(heads=0)
    loss = _judge(DDAMFNObjective(), output, _one_hot())
    torch.testing.assert_close(loss.total, nn.functional.cross_entropy(output.logits, _one_hot()))


def test_soft_targets_against_the_definition() -> None:
    logits, targets = torch.randn(4, 5), torch.softmax(torch.randn(4, 5), dim=1)
    expected = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(soft_cross_entropy(logits, targets), expected)
    smoothed = 0.9 * targets + 0.1 / 5
    expected = -(smoothed * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(soft_cross_entropy(logits, targets, label_smoothing=0.1), expected)
    assert soft_cross_entropy(torch.zeros(4, 5), targets).item() == pytest.approx(math.log(5))


@pytest.mark.parametrize("options", [{"attention_weight": -0.1}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        DDAMFNObjective(**options)
