"""Statistics of images as they are: what they are, and that a run keeps them and nothing else changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ddamfn.errors import ConfigError
from ddamfn.train import Run, fit
from ddamfn.train.augment import to_input
from ddamfn.train.average import with_precise_bn
from ddamfn.train.run_folder import load_state, load_weights_file
from ddamfn.train.tensorset import TensorSplit

Splits = tuple[TensorSplit, TensorSplit]


def test_they_are_the_mean_and_variance_of_the_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(10, 3, 8, 8) * 3 + 1
    precise = with_precise_bn(network, images, lambda chunk: chunk)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    assert not precise.training
    with torch.no_grad():
        maps = network[0](images)
        normed = (maps - maps.mean((0, 2, 3), keepdim=True)) / (
            maps.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
        ).sqrt()
    for norm, seen in ((precise[1], maps), (precise[3], normed.relu())):
        torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    for name, parameter in network.named_parameters():
        assert torch.equal(precise.get_parameter(name), parameter)


@pytest.mark.parametrize("count", [257, 513])
def test_no_image_passes_alone(count: int) -> None:
    """With one value a channel there is no variance."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    images = torch.linspace(-1, 1, count).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    precise = with_precise_bn(network, images, lambda chunk: chunk)
    torch.testing.assert_close(precise[1].running_mean, torch.zeros(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_run_keeps_them_and_trains_as_without(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, ema: float | None
) -> None:
    erased = {"augment__erase": 1.0, "augment__erase_area": [0.2, 0.3], "augment__affine": 0.0, "ema": ema}
    kept, states = {}, {}
    for name, precise_bn in (("precise", 16), ("running", None)):
        run = make_run(precise_bn=precise_bn, **erased)
        fit(run, *splits, tmp_path / name, reporter)
        kept[name] = load_weights_file(tmp_path / name / "checkpoints" / "last.safetensors")
        states[name] = load_state(tmp_path / name / "checkpoints" / "state.pt")
    for part in ("network", "average") if ema else ("network",):
        assert all(torch.equal(tensor, states["running"][part][key]) for key, tensor in states["precise"][part].items())
    differing = {key for key, tensor in kept["running"].items() if not torch.equal(tensor, kept["precise"][key])}
    assert differing
    assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in differing)

    # The first normalization sees what the first convolution makes of the training images, uncovered.
    inputs = to_input(splits[0].images.float() / 255, run.data.mean, run.data.std)
    weights = kept["precise"]
    seen = nn.functional.conv2d(inputs, weights["trunk.stem.conv.weight"], stride=2, padding=1)
    torch.testing.assert_close(weights["trunk.stem.norm.running_mean"], seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(weights["trunk.stem.norm.running_var"], seen.var((0, 2, 3)), atol=1e-4, rtol=1e-3)


def test_one_image_has_no_variance(make_run: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"^precise_bn must be 2 or more: 1$"):
        make_run(precise_bn=1)
