"""DAN: several heads of spatial and channel attention on one map, kept apart and then summed.

Source: Wen et al., "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression Recognition",
Biomimetics 2023, 8(2), 199, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.registry import ModelOutput, register_model
from ddamfn.models.resnet import FEATURE_CHANNELS, ResNet18Trunk

_NARROW = 256


class SpatialAttention(nn.Module):
    """Map (B, 512, H, W) to one non-negative map of positions (B, 1, H, W), from square and from long kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(FEATURE_CHANNELS, _NARROW, 1), nn.BatchNorm2d(_NARROW))
        self.looks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(_NARROW, FEATURE_CHANNELS, (height, width), padding=(height // 2, width // 2)),
                nn.BatchNorm2d(FEATURE_CHANNELS),
            )
            for height, width in ((3, 3), (1, 3), (3, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the channels; the paper sums, see `CrossAttentionHead`."""
        narrow = self.narrow(x)
        summed = torch.stack([look(narrow) for look in self.looks]).sum(dim=0)
        return F.relu(summed).mean(dim=1, keepdim=True)


class CrossAttentionHead(nn.Module):
    """Spatial, then channel attention: (B, 512, H, W) -> (B, 512) and the map of positions (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.where = SpatialAttention()
        self.what = nn.Sequential(
            nn.Linear(FEATURE_CHANNELS, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, FEATURE_CHANNELS)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to x."""
        where = self.where(x)
        vector = (x * where * FEATURE_CHANNELS).mean(dim=(2, 3))
        return vector * torch.sigmoid(self.what(vector)), where


@register_model
class DAN(nn.Module):
    """ResNet-18 and attention heads; 19,723,733 parameters with 7 classes and 4 heads.

    `attention` (B, A, 1, H, W) is each head's map m of positions, which has no upper limit, as m / (1 + m), in
    [0, 1); m is the mean over the channels. `extra` holds "embedding" (B, 512), which the affinity loss moves, and
    "heads" (B, A, 512), log-softmax over the heads, which the partition loss moves.

    Args:
        num_classes: K.
        num_heads: A >= 1; 4 in the paper.
    """

    input_size = (224, 224)

    def __init__(self, *, num_classes: int, num_heads: int = 4) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be 1 or more, not {num_heads}")
        self.num_classes = num_classes
        self.trunk = ResNet18Trunk()
        self.heads = nn.ModuleList(CrossAttentionHead() for _ in range(num_heads))
        self.classifier = nn.Linear(FEATURE_CHANNELS, num_classes)
        self.norm = nn.BatchNorm1d(num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 224, 224) float."""
        features = self.trunk(images)
        vectors, maps = zip(*(head(features) for head in self.heads), strict=True)
        heads, where = torch.stack(vectors, dim=1), torch.stack(maps, dim=1)
        if len(self.heads) > 1:
            heads = F.log_softmax(heads, dim=1)
        logits = self.norm(self.classifier(heads.sum(dim=1)))
        extra = {"embedding": features.mean(dim=(2, 3)), "heads": heads}
        return ModelOutput(logits, features, where / (1 + where), extra)
