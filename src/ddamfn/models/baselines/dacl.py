"""DACL: for each image, the network learns which channels of a feature must come close to its class's center.

Source: Farzaneh and Qi, "Facial Expression Recognition in the Wild via Deep Attentive Center Loss", WACV 2021,
section 3.
"""

import torch
from torch import Tensor, nn

from ddamfn.models.layers import fit_map
from ddamfn.models.registry import ModelOutput, register_model, without_heads
from ddamfn.models.resnet import FEATURE_CHANNELS, ResNet18Trunk

FEATURE_SIDE = 7


class FeatureAttention(nn.Module):
    """Map (B, 512, 7, 7) to a weight in (0, 1) for each channel, (B, 512); `width` is the first layer's."""

    def __init__(self, width: int = 3584) -> None:
        super().__init__()
        widths = (FEATURE_CHANNELS * FEATURE_SIDE**2, width, 512, 64)
        layers: list[nn.Module] = []
        for taken, given, act in zip(widths[:-1], widths[1:], (nn.ReLU(), nn.ReLU(), nn.Tanh()), strict=True):
            layers += [nn.Linear(taken, given), nn.BatchNorm1d(given), act]
        self.context = nn.Sequential(*layers)
        # Two numbers per channel, "leave" and "take": their softmax is the weight.
        self.gate = nn.Linear(widths[-1], 2 * FEATURE_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of x (B, 512, H, W)."""
        context = self.context(fit_map(x, FEATURE_SIDE).flatten(1))
        return torch.softmax(self.gate(context).unflatten(1, (FEATURE_CHANNELS, 2)), dim=2)[..., 1]


@register_model
class DACL(nn.Module):
    """ResNet-18 with an attention network beside it, which only the loss uses.

    103,042,311 parameters with 7 classes, of which 11,180,103 predict.

    While training, `extra` holds "embedding" (B, 512), the feature that the center loss moves, and "channel_weights"
    (B, 512) in (0, 1). In evaluation the attention network does not run: predictions do not depend on it.

    Args:
        num_classes: K.
        attention_width: of the attention network's first layer, which holds nine tenths of all parameters; 3584 in the
            paper.
    """

    input_size = (224, 224)

    def __init__(self, *, num_classes: int, attention_width: int = 3584) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = ResNet18Trunk()
        self.attention = FeatureAttention(attention_width)
        self.classifier = nn.Linear(FEATURE_CHANNELS, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 224, 224) float; there are no heads, so A = 0."""
        features = self.trunk(images)
        embedding = features.mean(dim=(2, 3))
        extra = {}
        if self.training:
            extra = {"embedding": embedding, "channel_weights": self.attention(features)}
        return ModelOutput(self.classifier(embedding), features, without_heads(features), extra)
