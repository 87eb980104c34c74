"""Stochastic depth: the same on average, nothing at prediction, nothing to learn."""

import pytest
import torch
from torch import nn

from ddamfn.models import create_network
from ddamfn.models.layers import MixBottleneck, StageSpec, drop_path


def test_whole_images_are_left_out_and_the_average_stays() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2, 2)
    dropped = drop_path(x, 0.25)
    values = dropped.flatten(1)
    assert ((values == 0).all(dim=1) | (values == 1 / 0.75).all(dim=1)).all()
    # Four standard deviations of the mean of 4000 such draws.
    assert float(dropped.mean()) == pytest.approx(1.0, abs=4 * (0.25 / 0.75 / 4000) ** 0.5)


def bottlenecks(network: nn.Module) -> list[MixBottleneck]:
    return [module for module in network.modules() if isinstance(module, MixBottleneck)]


@pytest.mark.parametrize("name", ["ddamfn", "mfn"])
def test_probabilities_rise_in_a_straight_line_over_the_residual_bottlenecks(name: str) -> None:
    with torch.device("meta"):
        network = create_network(name, num_classes=7, drop_path=0.31)
        plain = create_network(name, num_classes=7)
    found = [block.drop_path for block in bottlenecks(network) if block.residual]
    assert found == pytest.approx([0.01 * depth for depth in range(1, 32)])
    assert all(block.drop_path == 0 for block in bottlenecks(plain))
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_a_bottleneck_is_the_same_on_average() -> None:
    spec = StageSpec(8, 8, 16, (3,), (16,), stride=1)
    torch.manual_seed(0)
    block = MixBottleneck(spec, mixed_kernels=False, coordinate_attention=True, drop_path=0.4)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # its own statistics, so that only chance differs from the whole block
    x = torch.randn(1, 8, 5, 5)
    whole = block.eval()(x).detach()
    block.training = True
    with torch.no_grad():
        mean = block(x.expand(6000, -1, -1, -1)).mean(dim=0, keepdim=True)
    torch.testing.assert_close(mean, whole, rtol=0.05, atol=0.08 * float((whole - x).abs().max()))
    assert not torch.allclose(block(x.expand(50, -1, -1, -1)).std(dim=0), torch.zeros(1))


def test_prediction_knows_nothing_of_it() -> None:
    torch.manual_seed(0)
    dropping = create_network("ddamfn", num_classes=7, drop_path=0.5)
    plain = create_network("ddamfn", num_classes=7)
    plain.load_state_dict(dropping.state_dict())
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(dropping.eval()(images).logits, plain.eval()(images).logits)
        assert not torch.equal(dropping.train()(images).logits, plain.train()(images).logits)
