"""Trained weights in PyTorch, from each form that they are kept in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("onnx", reason="needs onnx")

import safetensors.torch
from torch import nn

import ddamfn
from ddamfn.classifier import Classifier, preprocessing_of
from ddamfn.errors import TrainingError, UsageError, WeightsError
from ddamfn.export.loading import create_model, load_network
from ddamfn.faces import normalize, preprocess
from ddamfn.files import sha256_file
from ddamfn.synthetic import synthetic_face
from ddamfn.train.initial import options_of
from ddamfn.weights import Card, find_weights, list_weights, read_card, write_card


def faces_for(card: Card, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Synthetic faces as crops, and as the network's input."""
    generator = np.random.default_rng(11)
    names = [card.labels[index % len(card.labels)] for index in range(count)]
    crops = np.stack([synthetic_face(name, generator, card.input_side_px)[0] for name in names])
    inputs = normalize(preprocess(crops, preprocessing_of(card)), card.mean, card.std)
    return crops, torch.from_numpy(inputs)


@pytest.mark.parametrize("card", list_weights(), ids=lambda card: card.name)
def test_bundled_weights_compute_the_same_in_pytorch(card: Card) -> None:
    """Twelve faces in one batch: dynamic, and as ONNX Runtime runs them in fours."""
    crops, inputs = faces_for(card, 12)
    network = ddamfn.create_model(card.architecture["name"], weights=card.name)
    assert not network.training
    with torch.inference_mode():
        output = network(inputs)
    logits, attention = Classifier(card.name).classify(crops)
    np.testing.assert_allclose(output.logits.numpy(), logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(output.attention.mean(dim=2).numpy(), attention, rtol=0, atol=1e-4)


def test_trained_weights_can_be_trained_on() -> None:
    network = create_model("ddamfn", weights="ddamfn-ferplus").train()
    network(torch.randn(2, 3, 112, 112)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="ddamfn-ferplus is a ddamfn, not a mfn"):
        create_model("mfn", weights="ddamfn-ferplus")
    with pytest.raises(UsageError, match="8 expressions, not 7"):
        create_model("ddamfn", weights="ddamfn-ferplus", num_classes=7)
    with pytest.raises(UsageError, match="made with other options"):
        create_model("ddamfn", weights="ddamfn-ferplus", num_heads=3)
    with pytest.raises(UsageError, match="num_classes is missing"):
        create_model("ddamfn")
    with pytest.raises(WeightsError, match="no weights named 'nobody'"):
        create_model("ddamfn", weights="nobody")
    assert isinstance(create_model("ddamfn", weights="ddamfn-ferplus", num_heads=2, num_classes=8), nn.Module)


def test_a_card_of_another_network_than_its_file_is_refused(tmp_path: Path) -> None:
    path, card = find_weights("ddamfn-ferplus")
    plain = card.to_dict()
    plain["architecture"] |= {"options": {"num_heads": 3}}
    copy = Path(shutil.copy(path, tmp_path))
    write_card(Card.from_dict(plain), copy.with_suffix(".json"))
    with pytest.raises(WeightsError, match=r"ddamfn-ferplus\.onnx does not fit its network: .*ddan\.heads\.2"):
        load_network(copy)


def test_without_weights_the_registry_answers() -> None:
    torch.manual_seed(0)
    fresh = create_model("mobilefacenet", num_classes=5)
    assert fresh.training
    with pytest.raises(ValueError, match="no network named"):
        create_model("nobody", num_classes=5)


@pytest.fixture
def described(tiny: nn.Module, registered_tiny: str, stand_in_weights: Path, tmp_path: Path) -> Path:
    """The tiny network as safetensors with a card."""
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(tiny.state_dict(), path)
    plain = read_card(stand_in_weights.with_suffix(".json")).to_dict()
    plain["architecture"] |= {"name": registered_tiny, "num_classes": 5, "options": {"num_heads": 2}}
    plain |= {"file": path.name, "labels": list(plain["labels"][:5]), "sha256": sha256_file(path)}
    write_card(Card.from_dict(plain), path.with_suffix(".json"))
    return path


def test_safetensors_with_a_card(described: Path, tiny: nn.Module) -> None:
    for place in (described, described.with_suffix(".json")):
        loaded = load_network(place)
        assert (loaded.architecture, len(loaded.labels)) == ("tiny_network", 5)
        assert loaded.card is not None
        assert options_of(loaded.card) == loaded.options == {"num_heads": 2}
        assert all(torch.equal(v, tiny.state_dict()[k]) for k, v in loaded.network.state_dict().items())
    content = bytearray(described.read_bytes())
    content[-1] ^= 1
    described.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        load_network(described)


def test_bare_safetensors_need_the_network_named(described: Path, tiny: nn.Module, registered_tiny: str) -> None:
    described.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"has no card: tiny\.json must lie beside it; or name network"):
        load_network(described)
    network = create_model(registered_tiny, num_classes=5, weights=described)
    assert torch.equal(network.get_submodule("classifier").weight, tiny.get_submodule("classifier").weight)
    with pytest.raises(UsageError, match="num_classes is missing"):
        create_model(registered_tiny, weights=described)
    with pytest.raises(WeightsError, match="does not fit its network"):
        create_model(registered_tiny, num_classes=4, weights=described)
    described.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="no readable weights"):
        create_model(registered_tiny, num_classes=5, weights=described)


def test_folders_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="below runs"):
        load_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "ddamfn"}))
    with pytest.raises(WeightsError, match="does not describe a network of this package"):
        load_network(tmp_path)
