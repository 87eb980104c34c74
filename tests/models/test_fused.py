"""Fused networks compute what the networks compute, and their weights go back into them."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from torch import Tensor, nn

from ddamfn.models import ModelOutput, create_network, list_models
from ddamfn.models.fused import SMALLEST_ROUNDED, SplitPReLU, fuse, unfuse
from ddamfn.models.layers import ConvBlock, DirectionalGates, LinearBlock

VARIANTS = {
    "two heads": ("ddamfn", {}),
    "no head": ("ddamfn", {"num_heads": 0}),
    "one kernel size": ("ddamfn", {"mixed_kernels": False}),
    "no coordinate attention": ("ddamfn", {"coordinate_attention": False}),
    "trunk alone": ("mfn", {}),
}


@pytest.fixture(scope="module", autouse=True)
def _short(short_trunk: None) -> None:
    """Every kind of block once: what holds for one of a kind holds for all."""


def trained_looking(name: str, **options: object) -> nn.Module:
    return as_trained(create_network(name, num_classes=7, **options))


def as_trained(network: nn.Module) -> nn.Module:
    """Give a network running statistics and slopes that are no longer those of the start."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.PReLU):
            # Beyond 1 and below 0 too: both need another formula.
            module.weight.data.uniform_(-0.5, 1.5, generator=generator)
    return network.eval()


def run(network: nn.Module, images: Tensor) -> ModelOutput:
    with torch.inference_mode():
        output = network(images)
    assert isinstance(output, ModelOutput)
    return output


@pytest.mark.parametrize("name", VARIANTS)
def test_same_outputs_to_rounding(name: str) -> None:
    model, options = VARIANTS[name]
    network = trained_looking(model, **options)
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    # In float64 only the one rounding of the folded weights to float32 is left.
    expected, got = run(copy.deepcopy(network).double(), images.double()), run(fuse(network).double(), images.double())
    for field in ("logits", "features", "attention"):
        true, given = getattr(expected, field), getattr(got, field)
        assert true.shape == given.shape
        if true.numel():
            assert (true - given).abs().max() <= 2e-6 * max(1.0, float(true.abs().max())), field


@pytest.mark.usefixtures("short_baselines")
@pytest.mark.parametrize("name", list_models())
def test_every_network_can_be_made_fuse(name: str, light_network: Callable[..., nn.Module]) -> None:
    network = as_trained(light_network(name, 7, seed=3))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(run(fuse(network), images).logits, run(network, images).logits, rtol=1e-4, atol=1e-5)


def test_the_network_itself_is_left_as_it_was() -> None:
    network = trained_looking("ddamfn").train()
    before = copy.deepcopy(network.state_dict())
    fuse(network, float16=True)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_nothing_is_left_that_leaves_the_fast_layout() -> None:
    network = trained_looking("ddamfn")
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.clamp_(max=1.0)
    kinds = {type(module) for module in fuse(network).modules()}
    assert not kinds & {nn.PReLU, nn.BatchNorm2d, nn.Hardswish}


@pytest.mark.parametrize("slope", [-0.7, 0.0, 0.25, 1.0, 1.8])
def test_split_activation_is_prelu(slope: float) -> None:
    x = torch.linspace(-3, 3, 21, dtype=torch.float64).reshape(1, 1, 3, 7)
    split = SplitPReLU(torch.tensor([slope], dtype=torch.float64))
    expected = torch.where(x > 0, x, slope * x)
    torch.testing.assert_close(split.sign.reshape(1, -1, 1, 1) * split(x), expected)


def test_float16_rounds_large_parameters_alone() -> None:
    short = fuse(trained_looking("ddamfn"), float16=True)
    large = [p for p in short.parameters() if p.numel() >= SMALLEST_ROUNDED]
    small = [p for p in short.parameters() if p.numel() < SMALLEST_ROUNDED]
    assert all(torch.equal(p, p.half().float()) for p in large)
    assert any(not torch.equal(p, p.half().float()) for p in small)
    assert all(p.dtype == torch.float32 for p in short.parameters())
    weight = sum(p.numel() for p in large) / sum(p.numel() for p in short.parameters())
    assert weight > 0.99


def test_unknown_blocks_stay(rng: np.random.Generator) -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y

    network = Foreign().eval()
    images = torch.from_numpy(rng.normal(size=(1, 3, 9, 9)).astype(np.float32))
    torch.testing.assert_close(fuse(network)(images), network(images))


@pytest.mark.parametrize(
    "options", [{}, {"num_heads": 0}, {"mixed_kernels": False}, {"coordinate_attention": False}], ids=str
)
def test_fused_weights_go_back_into_the_network(options: dict[str, object]) -> None:
    network = trained_looking("ddamfn", **options)
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    again = create_network("ddamfn", num_classes=7, **options)
    unfuse(again, fuse(network).state_dict())
    torch.testing.assert_close(run(again.eval(), images).logits, run(network, images).logits, rtol=1e-4, atol=1e-5)


def test_weights_before_a_normalization_come_back_as_large_as_fresh_ones() -> None:
    source = trained_looking("ddamfn")
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.mul_(100)
    again = create_network("ddamfn", num_classes=7)
    unfuse(again, fuse(source).state_dict())
    blocks = [block for block in again.modules() if isinstance(block, (ConvBlock, LinearBlock))]
    before = [block.conv for block in blocks] + [g.squeeze for g in again.modules() if isinstance(g, DirectionalGates)]
    assert len(before) == sum(isinstance(module, nn.BatchNorm2d) for module in again.modules())
    for conv in before:
        kernels = conv.weight.flatten(1)
        ratio = kernels.square().mean(dim=1).sqrt() * (3 * kernels.shape[1]) ** 0.5
        # The nearest power of two leaves a root of two at most.
        assert ratio.min() > 0.7
        assert ratio.max() < 1.42


def test_what_is_unfused_can_be_fused_again() -> None:
    once = fuse(trained_looking("ddamfn"))
    again = create_network("ddamfn", num_classes=7)
    unfuse(again, once.state_dict())
    twice = fuse(again.eval()).state_dict()
    for name, value in once.state_dict().items():
        torch.testing.assert_close(twice[name], value, rtol=1e-6, atol=1e-6)


def test_missing_shapes_and_surplus_are_named() -> None:
    values = fuse(trained_looking("ddamfn")).state_dict()
    network = create_network("ddamfn", num_classes=7)
    with pytest.raises(ValueError, match=r"does not hold ddan\.pool\.weight by that name"):
        unfuse(network, {name: value for name, value in values.items() if name != "ddan.pool.weight"})
    with pytest.raises(ValueError, match=r"ddan\.classifier\.weight has the shape \(7, 512\), the network needs \(8"):
        unfuse(create_network("ddamfn", num_classes=8), values)
    with pytest.raises(ValueError, match=r"holds ddan\.heads\.1\.\S+ and \d+ more"):
        unfuse(create_network("ddamfn", num_classes=7, num_heads=1), values)


def test_slopes_come_back_exactly_where_they_are_not_steep() -> None:
    network = trained_looking("ddamfn")
    again = create_network("ddamfn", num_classes=7)
    unfuse(again, fuse(network).state_dict())
    for old, new in zip(network.modules(), again.modules(), strict=True):
        if isinstance(old, nn.PReLU):
            gentle = old.weight <= 1
            assert torch.equal(old.weight[gentle], new.weight[gentle])
            torch.testing.assert_close(old.weight, new.weight, rtol=1e-6, atol=0)


def test_a_bias_of_zeros_may_be_left_out() -> None:
    network = create_network("ddamfn", num_classes=7).eval()
    values = {name: value for name, value in fuse(network).state_dict().items() if value.any()}
    again = create_network("ddamfn", num_classes=7)
    unfuse(again, values)
    images = torch.randn(1, 3, 112, 112)
    torch.testing.assert_close(run(again.eval(), images).logits, run(network, images).logits, rtol=1e-4, atol=1e-5)
