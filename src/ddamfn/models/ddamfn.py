"""MFN, DDAN and DDAMFN: the network of the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.layers import ConvBlock, DirectionalGates, GDConv, MixBottleneck, StageSpec, fit_map
from ddamfn.models.registry import ModelOutput, register_model, without_heads


class DualDirectionAttention(nn.Module):
    """One head: a map in (0, 1) of the features' own shape, (B, C, S, S) -> (B, C, S, S).

    Rows and columns are gathered by linear depthwise convolutions as long as the map (GDConv with kernels 1xS and
    Sx1), so that every position has its own weight. The head returns the map itself; it does not apply it.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.rows = GDConv(channels, (1, side))
        self.columns = GDConv(channels, (side, 1))
        self.gates = DirectionalGates(channels, hidden=channels // 32)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x (B, C, S, S)."""
        gate_h, gate_w = self.gates(self.rows(x), self.columns(x))
        attention: Tensor = gate_w * gate_h
        return attention


class DDAN(nn.Module):
    """Attention heads, GDConv and the classifier on a (B, C, S, S) map.

    Args:
        channels: C of the map.
        side: S of the map; the learned sums are as long, so it is fixed (7 for 112-px images).
        num_classes: K.
        num_heads: A >= 0. Without heads the map goes to GDConv as it is.
    """

    def __init__(self, *, channels: int = 512, side: int = 7, num_classes: int, num_heads: int = 2) -> None:
        super().__init__()
        if num_heads < 0:
            raise ValueError(f"num_heads must be 0 or more, not {num_heads}")
        self.heads = nn.ModuleList(DualDirectionAttention(channels, side) for _ in range(num_heads))
        self.pool = GDConv(channels, side)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify a map: logits (B, K) and the heads' maps (B, A, C, S, S)."""
        if len(self.heads) == 0:
            return self.classify(x), x.new_empty((x.shape[0], 0, *x.shape[1:]))
        attention = torch.stack([head(x) for head in self.heads], dim=1)
        return self.classify(x * attention.amax(dim=1)), attention

    def class_maps(self, x: Tensor, attention: Tensor) -> Tensor:
        """What every position adds to every logit, (B, K, S, S) float32: class activation maps, exactly.

        After attention all is linear: GDConv's weight of the position, batch normalization's scale of the channel, the
        classifier's weight. The sum over positions is the logit up to a constant per class, from the
        classifier's bias and normalization's mean and shift. In training the batch's own statistics scale.

        Args:
            x: (B, C, S, S) float, the map.
            attention: (B, A, C, S, S) float, the heads' maps of it as `forward` returns them.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, for the maps of a
        network with average pooling.
        """
        with torch.autocast(x.device.type, enabled=False):
            weighed = (x * attention.amax(dim=1) if len(self.heads) else x).float()
            parts = weighed * self.pool.conv.weight.squeeze(1)
            norm = self.pool.norm
            sums = parts.sum(dim=(2, 3))
            variance = sums.var(dim=0, correction=0) if self.training else norm.running_var
            assert isinstance(variance, Tensor)  # these layers keep statistics
            scale = norm.weight * torch.rsqrt(variance + norm.eps)
            return torch.einsum("kc,bchw->bkhw", self.classifier.weight * scale, parts)

    def classify(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of a map that attention has weighted already."""
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


FEATURE_CHANNELS = 512
FEATURE_SIDE = 7
"""Side of the map for 112-px images; the kernels after it have this length."""

STAGES = (
    StageSpec(64, 64, 128, (3, 5, 7), (64, 32, 32), stride=2),
    StageSpec(64, 64, 128, (3, 5), (96, 32), stride=1, repeats=9),
    StageSpec(64, 128, 256, (3, 5, 7), (128, 64, 64), stride=2),
    StageSpec(128, 128, 256, (3, 5), (192, 64), stride=1, repeats=16),
    StageSpec(128, 256, 1024, (3, 5, 7, 9), (256, 256, 256, 256), stride=2),
    StageSpec(256, 256, 512, (3, 5, 7), (172, 170, 170), stride=1, repeats=6),
)


class MFNTrunk(nn.Sequential):
    """Image (B, 3, 112, 112) to map (B, 512, 7, 7): 34 bottlenecks between a stem and a 1x1 convolution.

    Args:
        mixed_kernels: depthwise kernels of 3 to 9 px side by side; off, 3x3 alone.
        coordinate_attention: the attention inside every bottleneck; off, none.
        drop_path: probability that the last of the 31 residual bottlenecks is left out for an image in training; it
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


@register_model
class MFN(nn.Module):
    """MFN as a face-recognition network with a classifier: trunk, GDConv, unit-length embedding, linear layer.

    4,166,063 parameters with 7 classes.
    """

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
        """Classify normalized RGB images (B, 3, 112, 112) float; there are no heads, so A = 0."""
        features = fit_map(self.trunk(images), FEATURE_SIDE)
        return ModelOutput(self.classifier(self.embed(features)), features, without_heads(features))


@register_model
class DDAMFN(nn.Module):
    """The whole network; 4,105,999 parameters with 7 classes and 2 heads.

    Args:
        num_classes: K.
        num_heads: attention heads; 2 in the paper, 0 gives trunk, GDConv and linear layer.
        mixed_kernels: see `MFNTrunk`.
        coordinate_attention: see `MFNTrunk`.
        drop_path: see `MFNTrunk`.
    """

    input_size = (112, 112)

    def __init__(
        self,
        *,
        num_classes: int,
        num_heads: int = 2,
        mixed_kernels: bool = True,
        coordinate_attention: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = MFNTrunk(
            mixed_kernels=mixed_kernels, coordinate_attention=coordinate_attention, drop_path=drop_path
        )
        self.ddan = DDAN(channels=FEATURE_CHANNELS, side=FEATURE_SIDE, num_classes=num_classes, num_heads=num_heads)

    def forward(self, images: Tensor, *, class_maps: bool = False) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 112, 112) float; `extra` holds "class_maps" where asked for."""
        features = fit_map(self.trunk(images), FEATURE_SIDE)
        logits, attention = self.ddan(features)
        extra = {"class_maps": self.ddan.class_maps(features, attention)} if class_maps else {}
        return ModelOutput(logits, features, attention, extra)
