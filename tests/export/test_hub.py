"""Networks in the hub's layout, without a connection."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")

from torch import nn

from ddamfn.classifier import Classifier
from ddamfn.export.hub import HubNetwork
from ddamfn.export.loading import LoadedNetwork, create_model, load_network

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tiny: nn.Module, registered_tiny: str, tmp_path: Path) -> Path:
    loaded = LoadedNetwork(tiny, registered_tiny, {"num_heads": 2}, LABELS, None)
    HubNetwork.from_weights(loaded).save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def test_saved_and_read_back(folder: Path, tiny: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = HubNetwork.from_pretrained(str(folder))
    assert capsys.readouterr().out == ""
    assert (again.labels, again.architecture, again.training) == (LABELS, "tiny_network", False)
    images = torch.randn(3, 3, 112, 112)
    for network in (again, load_network(folder).network, create_model("tiny_network", weights=folder)):
        assert torch.equal(network(images).logits, tiny(images).logits)
    assert again(images[:1]).logits.shape == (1, 5)


def test_weights_that_do_not_fit_never_pass(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["options"] = {"num_heads": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match="size mismatch"):
        HubNetwork.from_pretrained(str(folder))


def test_the_card_travels_along(tmp_path: Path) -> None:
    network = HubNetwork.from_weights("ddamfn-ferplus")
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "ddamfn"
    assert config["preprocessing"]["input_side_px"] == Classifier("ddamfn-ferplus").card.input_side_px
    assert config["preprocessing"]["preprocessing"] == Classifier("ddamfn-ferplus").card.preprocessing
    assert config["preprocessing"]["temperature"] == network.preprocessing["temperature"] != 1.0
    readme = (tmp_path / "README.md").read_text()
    assert "library_name: ddamfn" in readme
    assert "never what someone feels" in readme
