"""Parameters and operations, to the unit, against the table that was counted on the authors' network."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddamfn.models import create_model
from ddamfn.models.complexity import count_macs, count_parameters, count_torchstat_flops


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
    assert count_parameters(create_model("ddamfn", num_classes=classes, num_heads=heads)) == parameters


@pytest.mark.parametrize(
    ("mixed_kernels", "coordinate_attention", "parameters"),
    [(True, True, 4_166_063), (False, True, 4_049_807), (True, False, 3_764_647), (False, False, 3_648_391)],
)
def test_parameters_of_mfn(mixed_kernels: bool, coordinate_attention: bool, parameters: int) -> None:
    network = create_model("mfn", num_classes=7, mixed_kernels=mixed_kernels, coordinate_attention=coordinate_attention)
    assert count_parameters(network) == parameters


def test_the_switches_mean_the_same_in_both_networks() -> None:
    options = {"mixed_kernels": False, "coordinate_attention": False}
    trunks = [create_model(name, num_classes=7, **options).trunk for name in ("mfn", "ddamfn")]
    assert len({count_parameters(trunk) for trunk in trunks}) == 1
    assert trunks[0].state_dict().keys() == trunks[1].state_dict().keys()


@pytest.mark.parametrize(
    ("name", "options", "mega_macs", "mega_flops"),
    [
        ("ddamfn", {"num_heads": 1}, 539.309, 550.914),
        ("ddamfn", {"num_heads": 2}, 539.589, 551.216),
        ("ddamfn", {"num_heads": 3}, 539.868, 551.517),
        ("ddamfn", {"num_heads": 4}, 540.148, 551.819),
        ("ddamfn", {"num_heads": 2, "num_classes": 8}, 539.589, 551.216),
        ("mfn", {"mixed_kernels": False}, 525.823, 537.405),
        ("mfn", {"coordinate_attention": False}, 533.769, 545.059),
        ("mfn", {"mixed_kernels": False, "coordinate_attention": False}, 520.433, 531.724),
    ],
)
def test_operations(name: str, options: dict[str, int], mega_macs: float, mega_flops: float) -> None:
    network = create_model(name, **{"num_classes": 7, **options})
    assert round(count_macs(network) / 1e6, 3) == mega_macs
    assert round(count_torchstat_flops(network) / 1e6, 3) == mega_flops


def test_operations_of_mfn_without_its_classifier() -> None:
    network = create_model("mfn", num_classes=7)
    classifier = 256 * 7
    assert round((count_macs(network) - classifier) / 1e6, 3) == 539.157
    assert round((count_torchstat_flops(network) - classifier) / 1e6, 3) == 550.739
    assert round(count_torchstat_flops(network) / 1e6, 3) == 550.741


def test_macs_are_half_of_what_torch_counts() -> None:
    network = create_model("ddamfn", num_classes=7).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 112, 112))
    assert counter.get_total_flops() == 2 * count_macs(network)


def test_cost_falls_with_the_picture() -> None:
    network = create_model("ddamfn", num_classes=7)
    assert count_macs(network, (56, 56)) < count_macs(network) / 3.5


def test_counting_leaves_the_network_as_it_was() -> None:
    network = create_model("ddamfn", num_classes=7).train()
    network.trunk.stem.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_macs(network)
    assert network.training
    assert not network.trunk.stem.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_counts_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    outputs = 4 * 4 * 4
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 8 + 128 + 2
    assert count_macs(network, (4, 4)) == outputs * 27 + 128
    assert count_torchstat_flops(network, (4, 4)) == outputs * (27 + 1 + 2 + 1) + 128
