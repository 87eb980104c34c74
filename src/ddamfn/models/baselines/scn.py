"""SCN: every image has a weight for how far its label can be trusted.

Source: Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition", CVPR 2020, section 3.2.
"""

import torch
from torch import Tensor, nn

from ddamfn.models.registry import ModelOutput, register_model, without_heads
from ddamfn.models.resnet import FEATURE_CHANNELS, ResNet18Trunk


@register_model
class SCN(nn.Module):
    """ResNet-18 whose logits are multiplied by the image's weight; 11,180,616 parameters with 7 classes.

    The weight leaves the order of the classes as it is and lowers the confidence of a prediction that it distrusts.
    `extra["importance"]` (B,) in (0, 1) is the weight.
    """

    input_size = (224, 224)

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = ResNet18Trunk()
        self.importance = nn.Linear(FEATURE_CHANNELS, 1)
        self.classifier = nn.Linear(FEATURE_CHANNELS, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 224, 224) float; there are no heads, so A = 0."""
        features = self.trunk(images)
        vector = features.mean(dim=(2, 3))
        importance = torch.sigmoid(self.importance(vector))
        logits = importance * self.classifier(vector)
        return ModelOutput(logits, features, without_heads(features), {"importance": importance.squeeze(1)})
