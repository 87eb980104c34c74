"""Small networks to export: the real ones take ten seconds each, and most of what is tested does not need them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from torch import Tensor, nn  # noqa: E402

from ddamfn.models import ModelOutput  # noqa: E402


class TinyNetwork(nn.Module):
    """Pooled colours to logits, and two attention maps: what an exported network must have, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 2 * 4, 1)
        self.classifier = nn.Linear(3 * 49, 5)

    def forward(self, images: Tensor) -> ModelOutput:
        pooled = nn.functional.avg_pool2d(images, 16)
        attention = torch.sigmoid(self.mix(pooled)).unflatten(1, (2, 4))
        return ModelOutput(self.classifier(pooled.flatten(1)), pooled, attention)


@pytest.fixture
def tiny() -> nn.Module:
    """A tiny network with fixed weights."""
    torch.manual_seed(5)
    return TinyNetwork().eval()


@pytest.fixture
def faces(rng: np.random.Generator) -> np.ndarray:
    """Forty inputs, (40, 3, 112, 112) float32."""
    return (rng.normal(size=(40, 3, 7, 7)).repeat(16, axis=2).repeat(16, axis=3)).astype(np.float32)
