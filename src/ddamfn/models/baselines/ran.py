"""RAN: the face and five crops of it, weighted by how informative each is.

Source: Wang et al., "Region Attention Networks for Pose and Occlusion Robust Facial Expression Recognition", IEEE
Transactions on Image Processing 2020, section III. Fixed cropping, and the two attentions as printed: the authors'
program divides each by a softmax over the crops besides.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.registry import ModelOutput, register_model, without_heads
from ddamfn.models.resnet import FEATURE_CHANNELS, ResNet18Trunk

# Left, top and side of each crop, in sides of the image: upper left, upper right, lower middle, two centered ones.
REGIONS = (
    (0.0, 0.0, 0.75),
    (0.25, 0.0, 0.75),
    (0.125, 0.25, 0.75),
    (0.05, 0.05, 0.9),
    (0.075, 0.075, 0.85),
)


def region_crops(images: Tensor) -> Tensor:
    """Cut images (B, 3, H, W) into (B, 6, 3, H, W): the five regions, enlarged, and last the whole image."""
    height, width = images.shape[-2:]
    crops = []
    for left, top, side in REGIONS:
        x, y = round(left * width), round(top * height)
        crop = images[..., y : y + round(side * height), x : x + round(side * width)]
        crops.append(F.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False))
    return torch.stack([*crops, images], dim=1)


@register_model
class RAN(nn.Module):
    """ResNet-18 on six crops; self-attention weights each alone, relation attention each against all.

    11,185,225 parameters with 7 classes.

    `extra["crop_weights"]` (B, 6) in (0, 1) are the self-attention's weights, the whole face last.
    """

    input_size = (224, 224)

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = ResNet18Trunk()
        self.self_attention = nn.Linear(FEATURE_CHANNELS, 1)
        self.relation_attention = nn.Linear(2 * FEATURE_CHANNELS, 1)
        self.classifier = nn.Linear(2 * FEATURE_CHANNELS, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 224, 224) float; `features` are the whole face's; A = 0."""
        crops = region_crops(images)
        maps = self.trunk(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        vectors = maps.mean(dim=(3, 4))
        weights = torch.sigmoid(self.self_attention(vectors))
        anchor = (weights * vectors).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
        pairs = torch.cat([vectors, anchor.expand_as(vectors)], dim=2)
        weights_in_view = weights * torch.sigmoid(self.relation_attention(pairs))
        face = (weights_in_view * pairs).sum(dim=1) / weights_in_view.sum(dim=1)
        features = maps[:, -1]
        return ModelOutput(
            self.classifier(face), features, without_heads(features), {"crop_weights": weights.squeeze(2)}
        )
