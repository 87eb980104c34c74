"""Networks that begin with another run's weights, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError, TrainingError, WeightsError
from ddamfn.models import create_network
from ddamfn.models.fused import fuse, unfuse
from ddamfn.train import Run, fit
from ddamfn.train.initial import begin_from, read_exported, weights_file
from ddamfn.train.loop import Trainer
from ddamfn.train.pretraining import trunk_names
from ddamfn.train.run_folder import RunFolder, save_weights_file
from ddamfn.train.tensorset import TensorSplit
from ddamfn.weights import find_weights

Splits = tuple[TensorSplit, TensorSplit]
LIGHT = {"num_heads": 2, "mixed_kernels": False, "coordinate_attention": False}


def ddamfn(classes: int, seed: int) -> torch.nn.Module:
    """A network whose normalizations have seen something, as those of every trained one have."""
    torch.manual_seed(seed)
    network = create_network("ddamfn", num_classes=classes, **LIGHT)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def no_images() -> Tensor:
    raise AssertionError("a network with statistics needs no images")


def test_what_fits_by_name_and_shape_is_taken_and_the_rest_stays(tmp_path: Path) -> None:
    other, network = ddamfn(5, seed=1), ddamfn(8, seed=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_weights_file({**other.state_dict(), "stranger": torch.ones(2)}, tmp_path / "other.safetensors")
    record = begin_from(network, str(tmp_path / "other.safetensors"), no_images)
    after, source = network.state_dict(), other.state_dict()
    fitting = [name for name in source if before[name].shape == source[name].shape]
    assert record["taken"] == len(fitting) < record["tensors"] == len(after)
    assert len(record["sha256"]) == 64
    for name, tensor in after.items():
        assert torch.equal(tensor, source[name] if name in fitting else before[name]), name


def test_nothing_in_common_is_told_in_one_line(tmp_path: Path) -> None:
    save_weights_file({"stranger": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other.safetensors: none of its 1 tensors has name and shape"):
        begin_from(ddamfn(8, seed=1), str(tmp_path / "other.safetensors"), no_images)


def test_a_missing_or_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere': no run with kept weights"):
        weights_file(str(tmp_path / "nowhere"))
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match=r"torn.safetensors: no readable weights"):
        begin_from(ddamfn(8, seed=1), str(tmp_path / "torn.safetensors"), no_images)


def test_a_run_prefers_its_trunk_then_its_best_network(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in ("last", "best", "trunk"):
        save_weights_file({"x": torch.ones(1)}, folder / f"{name}.safetensors")
        assert weights_file(str(tmp_path)) == folder / f"{name}.safetensors"


@pytest.mark.parametrize("name", ["ddamfn", "mfn", "iresnet18"])
def test_the_trunk_is_what_the_features_depend_on(name: str) -> None:
    network = create_network(name, num_classes=4)
    names = trunk_names(network)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network(images).features
        for key, tensor in network.state_dict().items():
            if key not in names and tensor.is_floating_point():
                tensor.add_(1)
        assert torch.equal(network(images).features, features)
    rest = [key for key in network.state_dict() if key not in names]
    assert rest
    if name == "ddamfn":
        assert all(key.startswith("trunk.") for key in names)
        assert all(key.startswith("ddan.") for key in rest)


def test_a_run_begins_with_the_weights_and_keeps_their_hash(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    other = ddamfn(8, seed=5)
    save_weights_file(other.state_dict(), tmp_path / "other.safetensors")
    run = make_run(initial=str(tmp_path / "other.safetensors"), model__options=LIGHT, phases__0__epochs=1, ema=0.5)
    trainer = Trainer(run, *splits, RunFolder(tmp_path / "run"))
    assert trainer.average is not None
    for part in (trainer.network, trainer.average.module):
        assert all(torch.equal(part.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    fit(run, *splits, tmp_path / "run", reporter)
    assert f'"sha256": "{trainer.record["initial"]["sha256"]}"' in (tmp_path / "run" / "environment.json").read_text()
    # A run that stands at a checkpoint needs its beginning no more.
    (tmp_path / "other.safetensors").unlink()
    fit(run, *splits, tmp_path / "run", reporter, resume=True)


def test_a_run_that_cannot_begin_leaves_no_folder_behind(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    with pytest.raises(ConfigError, match="no run with kept weights"):
        fit(make_run(initial=str(tmp_path / "none")), *splits, tmp_path / "run", reporter)
    assert not (tmp_path / "run" / "config.json").exists()


def test_weights_of_an_exported_file_get_statistics_and_answer_as_before(tmp_path: Path) -> None:
    source, exported, network = ddamfn(8, seed=1).eval(), ddamfn(8, seed=2), ddamfn(8, seed=3)
    unfuse(exported, fuse(source).state_dict())
    save_weights_file(exported.state_dict(), tmp_path / "file.safetensors")
    images = torch.rand(256, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    begin_from(network, str(tmp_path / "file.safetensors"), lambda: images)
    assert network.training
    with torch.no_grad():
        expected = source(images[:8]).logits
        torch.testing.assert_close(network.eval()(images[:8]).logits, expected, rtol=1e-3, atol=1e-4)
        # One large batch has nearly the statistics that were taken, so training begins where the file ends.
        everything = source(images).logits
        torch.testing.assert_close(network.train()(images).logits, everything, rtol=1e-2, atol=1e-3)
        forgotten = exported.train()(images).logits
    assert (forgotten - everything).abs().max() > 10 * (network(images).logits - everything).abs().max()


@pytest.mark.usefixtures("whole_trunk")
def test_the_weights_of_the_package_are_a_beginning_by_their_name(tmp_path: Path) -> None:
    path, card = find_weights("ddamfn-ferplus")
    assert weights_file("ddamfn-ferplus") == weights_file(str(path.with_suffix(".json"))) == path
    network = create_network("ddamfn", num_classes=4, num_heads=2)
    images = torch.randn(32, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    record = begin_from(network, "ddamfn-ferplus", lambda: images)
    # All but weight and bias of a classifier for other classes.
    assert record["taken"] == record["tensors"] - 2
    assert record["sha256"] == card.sha256
    whole, _ = read_exported("ddamfn-ferplus")
    with torch.no_grad():
        expected = whole(images).features
        torch.testing.assert_close(network.eval()(images).features, expected, rtol=1e-3, atol=1e-3)


def test_an_exported_file_without_card_and_a_wrong_name_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "alone.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"alone.onnx has no card: alone.json must lie beside it"):
        begin_from(ddamfn(8, seed=1), str(tmp_path / "alone.onnx"), no_images)
    with pytest.raises(ConfigError, match=r"'ddamfn-ferpuls': .* weights of this package \(ddamfn-ferplus\)"):
        weights_file("ddamfn-ferpuls")


def test_a_fresh_layer_beside_exported_weights_stays_fresh(tmp_path: Path) -> None:
    exported = ddamfn(8, seed=2)
    unfuse(exported, fuse(ddamfn(8, seed=1).eval()).state_dict())
    trunk = {name: tensor for name, tensor in exported.state_dict().items() if name.startswith("trunk.")}
    save_weights_file(trunk, tmp_path / "file.safetensors")
    torch.manual_seed(0)
    network = create_network("ddamfn", num_classes=4, **LIGHT)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    begin_from(network, str(tmp_path / "file.safetensors"), lambda: torch.rand(16, 3, 32, 32))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"trunk"}
    assert all(bool(network.state_dict()[name].ne(0).all()) for name in changed if name.endswith("running_mean"))
