"""The leaner networks compute what the networks compute."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from torch import Tensor, nn

from ddamfn.export.lean import SMALLEST_ROUNDED, SplitPReLU, lean
from ddamfn.models import ModelOutput, create_model, list_models

VARIANTS = {
    "two heads": ("ddamfn", {}),
    "no head": ("ddamfn", {"num_heads": 0}),
    "one kernel size": ("ddamfn", {"mixed_kernels": False}),
    "no coordinate attention": ("ddamfn", {"coordinate_attention": False}),
    "trunk alone": ("mfn", {}),
}


def trained_looking(name: str, **options: object) -> nn.Module:
    """A network whose running statistics and slopes are no longer those of the start."""
    network = create_model(name, num_classes=7, **options)
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
    expected, got = run(copy.deepcopy(network).double(), images.double()), run(lean(network).double(), images.double())
    for field in ("logits", "features", "attention"):
        true, said = getattr(expected, field), getattr(got, field)
        assert true.shape == said.shape
        if true.numel():
            assert (true - said).abs().max() <= 2e-6 * max(1.0, float(true.abs().max())), field


@pytest.mark.parametrize("name", list_models())
def test_every_network_can_be_made_lean(name: str) -> None:
    network = trained_looking(name)
    images = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(run(lean(network), images).logits, run(network, images).logits, rtol=1e-4, atol=1e-5)


def test_the_network_itself_is_left_as_it_was() -> None:
    network = trained_looking("ddamfn").train()
    before = copy.deepcopy(network.state_dict())
    lean(network, "float16")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_nothing_is_left_that_leaves_the_fast_layout() -> None:
    network = trained_looking("ddamfn")
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.clamp_(max=1.0)
    kinds = {type(module) for module in lean(network).modules()}
    assert not kinds & {nn.PReLU, nn.BatchNorm2d, nn.Hardswish}


@pytest.mark.parametrize("slope", [-0.7, 0.0, 0.25, 1.0, 1.8])
def test_split_activation_is_prelu(slope: float) -> None:
    x = torch.linspace(-3, 3, 21, dtype=torch.float64).reshape(1, 1, 3, 7)
    split = SplitPReLU(torch.tensor([slope], dtype=torch.float64))
    expected = torch.where(x > 0, x, slope * x)
    torch.testing.assert_close(split.sign.reshape(1, -1, 1, 1) * split(x), expected)


def test_float16_rounds_large_parameters_alone() -> None:
    short = lean(trained_looking("ddamfn"), "float16")
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
    torch.testing.assert_close(lean(network)(images), network(images))
