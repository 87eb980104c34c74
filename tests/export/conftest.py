"""Small networks to export: the real ones take ten seconds each, and most of what is tested does not need them."""

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from torch import Tensor, nn

from ddamfn.models import ModelOutput, registry


class TinyNetwork(nn.Module):
    """Pooled colors to logits, and two attention maps: what an exported network must have, and no more."""

    def __init__(self, num_classes: int = 5, num_heads: int = 2) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.mix = nn.Conv2d(3, num_heads * 4, 1)
        self.classifier = nn.Linear(3 * 49, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        pooled = nn.functional.avg_pool2d(images, 16)
        attention = torch.sigmoid(self.mix(pooled)).unflatten(1, (self.num_heads, 4))
        return ModelOutput(self.classifier(pooled.flatten(1)), pooled, attention)


def tiny_network(*, num_classes: int, num_heads: int = 2) -> nn.Module:
    """Build the tiny network by the name that the fixture `registered_tiny` gives it."""
    return TinyNetwork(num_classes, num_heads)


@pytest.fixture(scope="module")
def registered_tiny() -> Iterator[str]:
    """Name under which `create_model` knows the tiny network while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "tiny_network", tiny_network)
        yield "tiny_network"


@pytest.fixture
def tiny() -> nn.Module:
    """A tiny network with fixed weights."""
    torch.manual_seed(5)
    return TinyNetwork().eval()


@pytest.fixture
def faces(rng: np.random.Generator) -> np.ndarray:
    """Forty inputs, (40, 3, 112, 112) float32."""
    return (rng.normal(size=(40, 3, 7, 7)).repeat(16, axis=2).repeat(16, axis=3)).astype(np.float32)
