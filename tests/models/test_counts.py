"""Parameters and operations, to the unit, against the table that was counted on the authors' network."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from ddamfn.cli.models import NETWORKS
from ddamfn.models import create_network
from ddamfn.models.complexity import count_macs, count_parameters, count_torchstat_flops
from ddamfn.models.vit import SelfAttention

# The operations of a small network take less time than PyTorch's derivation of their shapes.
SMALL = ("ddamfn", "mfn", "mobilefacenet")
Counted = Callable[..., tuple[int, int]]


@pytest.fixture(scope="module")
def counted() -> Counted:
    """Return what counts parameters and MACs of a network at its own size, each once; large ones without numbers."""

    @cache
    def count(name: str, **options: Any) -> tuple[int, int]:
        with torch.device("cpu" if name in SMALL else "meta"):
            network = create_network(name, num_classes=7, **options)
        return count_parameters(network), count_macs(network, network.input_size)

    return count


@pytest.mark.parametrize(
    ("heads", "classes", "parameters"),
    [
        (0, 7, 4_036_271),
        (1, 7, 4_071_135),
        (2, 7, 4_105_999),
        (3, 7, 4_140_863),
        (4, 7, 4_175_727),
        (2, 8, 4_106_512),
    ],
)
def test_parameters_of_ddamfn(heads: int, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = create_network("ddamfn", num_classes=classes, num_heads=heads)
    assert count_parameters(network) == parameters


@pytest.mark.parametrize(
    ("mixed_kernels", "coordinate_attention", "parameters"),
    [(True, True, 4_166_063), (False, True, 4_049_807), (True, False, 3_764_647), (False, False, 3_648_391)],
)
def test_parameters_of_mfn(mixed_kernels: bool, coordinate_attention: bool, parameters: int) -> None:
    options = {"mixed_kernels": mixed_kernels, "coordinate_attention": coordinate_attention}
    with torch.device("meta"):
        network = create_network("mfn", num_classes=7, **options)
    assert count_parameters(network) == parameters


def test_the_switches_mean_the_same_in_both_networks() -> None:
    options = {"mixed_kernels": False, "coordinate_attention": False}
    trunks = [create_network(name, num_classes=7, **options).trunk for name in ("mfn", "ddamfn")]
    assert len({count_parameters(trunk) for trunk in trunks}) == 1
    assert trunks[0].state_dict().keys() == trunks[1].state_dict().keys()


@pytest.mark.parametrize(
    ("name", "options", "mega_macs", "mega_flops"),
    [
        ("ddamfn", {"num_heads": 1}, 539.309, 550.914),
        ("ddamfn", {"num_heads": 2}, 539.589, 551.216),
        ("ddamfn", {"num_heads": 4}, 540.148, 551.819),
        ("mfn", {"mixed_kernels": False}, 525.823, 537.405),
        ("mfn", {"coordinate_attention": False}, 533.769, 545.059),
        ("mfn", {"mixed_kernels": False, "coordinate_attention": False}, 520.433, 531.724),
    ],
)
def test_operations(name: str, options: dict[str, int], mega_macs: float, mega_flops: float) -> None:
    network = create_network(name, **{"num_classes": 7, **options})
    assert round(count_macs(network) / 1e6, 3) == mega_macs
    assert round(count_torchstat_flops(network) / 1e6, 3) == mega_flops


def test_operations_of_mfn_without_its_classifier() -> None:
    network = create_network("mfn", num_classes=7)
    classifier = 256 * 7
    assert round((count_macs(network) - classifier) / 1e6, 3) == 539.157
    assert round((count_torchstat_flops(network) - classifier) / 1e6, 3) == 550.739
    assert round(count_torchstat_flops(network) / 1e6, 3) == 550.741


@pytest.mark.parametrize(
    ("name", "parameters", "mega_flops"),
    [("mobilefacenet", 1_204_103, 230.336), ("iresnet18", 17_596_039, 2601.126), ("iresnet50", 43_578_567, 6313.098)],
)
def test_backbones(name: str, parameters: int, mega_flops: float) -> None:
    """The table of backbones: 1.148 and 16.78 and 41.56 times 2^20 parameters; 230.34 M, 2.6 G and 6.31 G."""
    with torch.device("meta"):
        network = create_network(name, num_classes=7)
    assert count_parameters(network) == parameters
    assert round(count_torchstat_flops(network) / 1e6, 3) == mega_flops


def test_operations_of_mobilefacenet_without_its_classifier() -> None:
    network = create_network("mobilefacenet", num_classes=7)
    classifier = 512 * 7
    assert round((count_macs(network) - classifier) / 1e6, 3) == 221.162
    assert round((count_torchstat_flops(network) - classifier) / 1e6, 3) == 230.333


# Parameters and MACs as they were counted on the authors' programs, or (MViT) on a program of the same parts.
@pytest.mark.parametrize(
    ("name", "options", "mega_parameters", "giga_macs"),
    [
        ("ran", {}, 11.185, 10.91),
        ("scn", {}, 11.181, 1.82),
        ("dacl", {}, 103.0, 1.91 - 0.0919),  # without the attention network, which does not run in evaluation
        ("mvit", {}, 33.0, 7.0),
        ("psr", {"spatial_transformer": False}, 20.1, 10.1),
        ("psr", {}, 20.1, 10.1),
        ("dan", {}, 19.724, 2.23),
        ("transfer", {}, 65.2, 15.3),
        # Two face-recognition heads that no answer passes through are counted in 71.85, 62.04 and 52.23 million.
        ("poster", {"query_projection": False}, 71.85 - 12.94, 7.89),
        ("poster", {"query_projection": False, "depth": 6}, 62.04 - 12.94, 7.35),
        ("poster", {"query_projection": False, "depth": 4}, 52.23 - 12.94, 6.82),
    ],
)
def test_methods_have_their_published_size(
    name: str, options: dict[str, int], mega_parameters: float, giga_macs: float, counted: Counted
) -> None:
    parameters, macs = counted(name, **options)
    assert parameters / 1e6 == pytest.approx(mega_parameters, rel=0.002)
    assert macs / 1e9 == pytest.approx(giga_macs, rel=0.006)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_command_line_lists_what_is_counted(name: str, counted: Counted) -> None:
    """The list is written by hand: `ddamfn models` must not import PyTorch."""
    parameters, macs = counted(name)
    assert parameters == NETWORKS[name].parameters
    assert round(macs / 1e9, 3) == NETWORKS[name].gmac


@pytest.mark.parametrize(
    ("name", "features", "attention"),
    [
        ("ddamfn", (512, 7, 7), (2, 512, 7, 7)),
        ("mfn", (512, 7, 7), (0, 512, 7, 7)),
        ("mobilefacenet", (512, 7, 7), (0, 512, 7, 7)),
        ("iresnet18", (512, 7, 7), (0, 512, 7, 7)),
        ("iresnet50", (512, 7, 7), (0, 512, 7, 7)),
        ("ran", (512, 7, 7), (0, 512, 7, 7)),
        ("scn", (512, 7, 7), (0, 512, 7, 7)),
        ("dacl", (512, 7, 7), (0, 512, 7, 7)),
        ("mvit", (384, 14, 14), (1, 3, 224, 224)),
        ("psr", (512, 3, 3), (0, 512, 3, 3)),
        ("dan", (512, 7, 7), (4, 1, 7, 7)),
        ("transfer", (256, 14, 14), (2, 1, 14, 14)),
        ("poster", (256, 14, 14), (0, 256, 14, 14)),
    ],
)
def test_whole_networks_at_their_own_size(name: str, features: tuple[int, ...], attention: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = create_network(name, num_classes=7)
        output = network.train()(torch.zeros(2, 3, *network.input_size))
    assert output.logits.shape == (2, 7)
    assert output.features.shape == (2, *features)
    assert output.attention.shape == (2, *attention)


def test_products_of_tokens_are_counted() -> None:
    attention = SelfAttention(8, 2)
    tokens, width = 5, 8
    by_layers = tokens * width * 4 * width
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(2), _Transposed(), attention)
    image = tokens * 3 * width
    assert count_macs(network, (1, tokens)) == image + by_layers + 2 * tokens * tokens * width


class _Transposed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def test_cost_falls_with_the_image() -> None:
    network = create_network("ddamfn", num_classes=7)
    assert count_macs(network, (56, 56)) < count_macs(network) / 3.5


def test_counting_leaves_the_network_as_it_was() -> None:
    network = create_network("ddamfn", num_classes=7).train()
    network.trunk.stem.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_macs(network)
    assert network.training
    assert not network.trunk.stem.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_counts_by_hand() -> None:
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(16, 2))
    outputs = 4 * 4 * 4
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 8 + 32 + 2
    assert count_macs(network, (4, 4)) == outputs * 27 + 32
    assert count_torchstat_flops(network, (4, 4)) == outputs * (27 + 1 + 2 + 1 + 1) + 32
