"""Grad-CAM against its formula, and the layer that it is taken at."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("captum", reason="needs captum")

from torch import Tensor, nn

from ddamfn.errors import WeightsError
from ddamfn.explain.gradcam import feature_layer, grad_cam
from ddamfn.models import ModelOutput, create_network
from ddamfn.models.layers import fit_map


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.Tanh())
        self.classifier = nn.Linear(6 * 4 * 4, 3)

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.trunk(images)
        return ModelOutput(self.classifier(features.flatten(1)), features, features.new_empty(len(images), 0, 1, 4, 4))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(1, 3, 16, 16)).astype(np.float32)


def test_the_formula(images: np.ndarray) -> None:
    """Channel weights are the mean gradients of the logit; the map is the positive part of the weighed sum."""
    torch.manual_seed(1)
    network = Small().eval()
    for target, said in zip((2, 0), grad_cam(network, images, (2, 0)), strict=True):
        features = network.trunk(torch.from_numpy(images)).detach().requires_grad_()
        network.classifier(features.flatten(1))[0, target].backward()
        assert features.grad is not None
        weights = features.grad.mean(dim=(2, 3), keepdim=True)
        expected = torch.relu((weights * features).sum(dim=1))[0].detach().numpy()
        np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-7)
        assert said.dtype == np.float32


@pytest.mark.parametrize(("name", "side_px"), [("ddamfn", 112), ("ddamfn", 48), ("mobilefacenet", 112), ("scn", 112)])
def test_the_layer_is_found_whatever_its_name(name: str, side_px: int) -> None:
    network = create_network(name, num_classes=7).eval()
    images = torch.randn(1, 3, side_px, side_px)
    layer = feature_layer(network, images)
    kept: list[Tensor] = []
    layer.register_forward_hook(lambda *words: kept.append(words[-1]))
    features = network(images).features
    assert torch.equal(features, fit_map(kept[0], features.shape[-1]))
    (said,) = grad_cam(network, images.numpy(), [3])
    assert said.shape == kept[0].shape[2:]
    assert (said >= 0).all()


def test_without_such_a_layer_one_line(images: np.ndarray) -> None:
    class Doubled(Small):
        def forward(self, images: Tensor) -> ModelOutput:
            output = super().forward(images)
            return output._replace(features=2 * output.features)

    with pytest.raises(WeightsError, match="no layer for Grad-CAM"):
        grad_cam(Doubled().eval(), images, [0])
