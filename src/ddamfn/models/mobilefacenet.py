"""MobileFaceNet: the small face-recognition network that MFN grew from, with a classifier on its embedding.

Source: Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices", CCBR
2018, table 1, in the widths of face-recognition libraries (four, six and two residual bottlenecks); the row
"MobileFaceNet" of the table of backbones in Zhang et al. 2023.
"""

from torch import Tensor, nn

from ddamfn.models.layers import ConvBlock, GDConv, LinearBlock, fit_map
from ddamfn.models.registry import ModelOutput, register_model, without_heads

FEATURE_CHANNELS = 512
FEATURE_SIDE = 7

# (in, out, channels inside, stride, repeats) of a row of bottlenecks.
_STAGES = (
    (64, 64, 128, 2, 1),
    (64, 64, 128, 1, 4),
    (64, 128, 256, 2, 1),
    (128, 128, 256, 1, 6),
    (128, 128, 512, 2, 1),
    (128, 128, 256, 1, 2),
)


class DepthwiseBottleneck(nn.Module):
    """Expand (1x1), depthwise (3x3), project (1x1, linear); with a skip where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, expand: int, *, stride: int) -> None:
        super().__init__()
        self.expand = ConvBlock(in_channels, expand)
        self.depthwise = ConvBlock(expand, expand, 3, stride=stride, groups=expand)
        self.project = LinearBlock(expand, out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNetTrunk(nn.Sequential):
    """Image (B, 3, 112, 112) to map (B, 512, 7, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(3, 64, 3, stride=2)
        self.stem_depthwise = ConvBlock(64, 64, 3, groups=64)
        for number, (in_channels, out_channels, expand, stride, repeats) in enumerate(_STAGES, start=1):
            blocks = [DepthwiseBottleneck(in_channels, out_channels, expand, stride=stride) for _ in range(repeats)]
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
        self.expand = ConvBlock(128, FEATURE_CHANNELS)


@register_model
class MobileFaceNet(nn.Module):
    """Trunk, GDConv, embedding, linear layer; 1,204,103 parameters with 7 classes.

    Args:
        num_classes: K.
        embedding_dim: D of the embedding before the classifier.
    """

    input_size = (112, 112)

    def __init__(self, *, num_classes: int, embedding_dim: int = 512) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = MobileFaceNetTrunk()
        self.pool = GDConv(FEATURE_CHANNELS, FEATURE_SIDE)
        self.project = nn.Linear(FEATURE_CHANNELS, embedding_dim, bias=False)
        self.norm = nn.BatchNorm1d(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 112, 112) float; there are no heads, so A = 0."""
        features = fit_map(self.trunk(images), FEATURE_SIDE)
        embedding = self.norm(self.project(self.pool(features).flatten(1)))
        return ModelOutput(self.classifier(embedding), features, without_heads(features))
