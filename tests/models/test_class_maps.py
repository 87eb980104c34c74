"""Class maps: exact parts of the logits, equal on both sides for a network without sides."""

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import create_network, gives_class_maps, list_models
from ddamfn.objectives.ddamfn import flip_consistency_loss

CLASSES = 5


def used_network(num_heads: int, *, symmetric: bool = False, side_px: int = 48) -> nn.Module:
    """DDAMFN with random weights whose statistics are those of random images, so that its answers differ."""
    torch.manual_seed(1)
    network = create_network("ddamfn", num_classes=CLASSES, num_heads=num_heads)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        if symmetric and isinstance(module, nn.Conv2d):
            with torch.no_grad():
                module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
    with torch.no_grad():
        network.train()(torch.randn(6, 3, side_px, side_px))
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("num_heads", [0, 2])
def test_parts_and_bias_sum_to_the_logits(num_heads: int, images: Tensor) -> None:
    network = used_network(num_heads).eval()
    with torch.no_grad():
        output = network(images, class_maps=True)
        maps = output.extra["class_maps"]
        norm = network.ddan.pool.norm
        shift = norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = network.ddan.classifier.bias + network.ddan.classifier.weight @ shift
    assert maps.shape == (4, CLASSES, 7, 7)
    assert float(output.logits.std(dim=0).min()) > 1e-3  # images differ, so that the sum means something
    torch.testing.assert_close(maps.sum(dim=(2, 3)) + bias, output.logits, rtol=1e-4, atol=1e-5)


def test_in_training_the_batch_s_own_statistics_scale(images: Tensor) -> None:
    network = used_network(2).train()
    with torch.no_grad():
        output = network(images, class_maps=True)
    rest = output.logits - output.extra["class_maps"].sum(dim=(2, 3))
    # What is left is a constant of each class.
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-4, atol=1e-4)
    assert float(output.logits.std(dim=0).min()) > 1e-2


def test_asking_changes_no_answer_and_not_asking_gives_none(images: Tensor) -> None:
    network = used_network(2).eval()
    with torch.no_grad():
        asked, plain = network(images, class_maps=True), network(images)
    assert plain.extra == {}
    assert torch.equal(asked.logits, plain.logits)


def test_a_network_without_sides_is_consistent_and_another_is_not() -> None:
    """With an odd number of pixels at every stride, and kernels that equal their mirror images, nothing has a side."""
    images = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(3))
    losses = []
    for symmetric in (True, False):
        network = used_network(2, symmetric=symmetric, side_px=97).eval()
        with torch.no_grad():
            maps, mirrored = (network(x, class_maps=True).extra["class_maps"] for x in (images, images.flip(-1)))
        losses.append(float(flip_consistency_loss(maps, mirrored) / maps.square().sum(dim=(2, 3)).mean()))
    assert losses[0] < 1e-8
    assert losses[1] > 1e-2


def test_every_part_of_the_network_learns_from_the_maps(images: Tensor) -> None:
    network = used_network(2).train()
    maps = network(torch.cat([images, images.flip(-1)]), class_maps=True).extra["class_maps"]
    flip_consistency_loss(*maps.chunk(2)).backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # Constants of a class have no place.
    assert untouched == ["ddan.pool.norm.bias", "ddan.classifier.bias"]


def test_who_gives_class_maps() -> None:
    with torch.device("meta"):
        given = {name for name in list_models() if gives_class_maps(create_network(name, num_classes=CLASSES))}
    assert given == {"ddamfn"}
