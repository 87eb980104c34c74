"""MFN, the mixed feature network: the trunk of DDAMFN, and the backbone-only network of the ablations.

Source: Zhang et al. 2023, section 3.2 and table 1; the classifier-only variant is the row "MFN" of its table of
parameters (256-d embedding as in face recognition, then a fully connected layer).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.blocks import ConvBlock, GDConv, MixBottleneck, StageSpec
from ddamfn.models.output import ModelOutput, without_heads
from ddamfn.models.registry import register_model
from ddamfn.models.resample import fit_map

FEATURE_CHANNELS = 512
FEATURE_SIDE = 7
"""Side of the map for 112-px pictures; the learned sums after it are as long."""

STAGES = (
    StageSpec(64, 64, 128, (3, 5, 7), (64, 32, 32), stride=2),
    StageSpec(64, 64, 128, (3, 5), (96, 32), stride=1, repeats=9),
    StageSpec(64, 128, 256, (3, 5, 7), (128, 64, 64), stride=2),
    StageSpec(128, 128, 256, (3, 5), (192, 64), stride=1, repeats=16),
    StageSpec(128, 256, 1024, (3, 5, 7, 9), (256, 256, 256, 256), stride=2),
    StageSpec(256, 256, 512, (3, 5, 7), (172, 170, 170), stride=1, repeats=6),
)


class MFNTrunk(nn.Sequential):
    """Picture (B, 3, 112, 112) to map (B, 512, 7, 7): 34 bottlenecks between a stem and a 1x1 convolution.

    Args:
        mixed_kernels: depthwise kernels of 3 to 9 px side by side; off, 3x3 alone.
        coordinate_attention: the attention inside every bottleneck; off, none.
        drop_path: probability that the last of the 31 residual bottlenecks is left out for a picture in training; it
            rises to that in a straight line (Huang et al., ECCV 2016). No parameter depends on it.

    Raises:
        ValueError: if `drop_path` is not at least 0 and below 1.
    """

    def __init__(
        self, *, mixed_kernels: bool = True, coordinate_attention: bool = True, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {drop_path}")
        residual, depth = sum(spec.repeats for spec in STAGES if spec.residual), 0
        self.stem = ConvBlock(3, 64, 3, stride=2)
        self.stem_depthwise = ConvBlock(64, 64, 3, groups=64)
        for number, spec in enumerate(STAGES, start=1):
            blocks = []
            for _ in range(spec.repeats):
                depth += spec.residual
                blocks.append(
                    MixBottleneck(
                        spec,
                        mixed_kernels=mixed_kernels,
                        coordinate_attention=coordinate_attention,
                        drop_path=drop_path * depth / residual,
                    )
                )
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
        self.expand = ConvBlock(STAGES[-1].out_channels, FEATURE_CHANNELS)


def fit_to_head(features: Tensor) -> Tensor:
    """Resample a map to 7x7, (B, C, H, W) -> (B, C, 7, 7), if the picture was not 112 px wide."""
    return fit_map(features, FEATURE_SIDE)


class MFN(nn.Module):
    """MFN as a face-recognition network with a classifier: trunk, GDConv, unit-length embedding, linear layer."""

    input_size = (112, 112)

    def __init__(
        self,
        *,
        num_classes: int,
        embedding_dim: int = 256,
        mixed_kernels: bool = True,
        coordinate_attention: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = MFNTrunk(
            mixed_kernels=mixed_kernels, coordinate_attention=coordinate_attention, drop_path=drop_path
        )
        self.pool = GDConv(FEATURE_CHANNELS, FEATURE_SIDE)
        self.project = nn.Linear(FEATURE_CHANNELS, embedding_dim, bias=False)
        self.norm = nn.BatchNorm1d(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def embed(self, features: Tensor) -> Tensor:
        """Embedding (B, D) of unit length from a map (B, 512, 7, 7)."""
        return F.normalize(self.norm(self.project(self.pool(features).flatten(1))), dim=1)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalised RGB pictures (B, 3, 112, 112) float; there are no heads, so A = 0."""
        features = fit_to_head(self.trunk(images))
        return ModelOutput(self.classifier(self.embed(features)), features, without_heads(features))


@register_model
def mfn(
    *,
    num_classes: int,
    embedding_dim: int = 256,
    mixed_kernels: bool = True,
    coordinate_attention: bool = True,
    drop_path: float = 0.0,
) -> MFN:
    """MFN alone; 4,166,063 parameters with 7 classes."""
    return MFN(
        num_classes=num_classes,
        embedding_dim=embedding_dim,
        mixed_kernels=mixed_kernels,
        coordinate_attention=coordinate_attention,
        drop_path=drop_path,
    )
