"""MViT: one transformer masks what does not matter in the image, a second one classifies the rest.

Source: Li et al., "MVT: Mask Vision Transformer for Facial Expression Recognition in the Wild", arXiv 2106.04520. The
paper's program is not public and its text leaves details open. Ours are: both transformers have patches of 16 px and
the small DeiT's width; the mask generator has its first six layers, and a linear layer from each patch's token to the
patch's 16 x 16 x 3 mask values; there is no loss on the mask itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.registry import ModelOutput, register_model
from ddamfn.models.vit import NORM_EPS, EncoderBlock, TokenEmbedding, initialize_tokens

_WIDTH, _HEADS, _MLP_RATIO, _PATCH_PX, _GRID = 384, 6, 4, 16, 14


class Encoder(nn.Module):
    """The first layers of the small DeiT: image (B, 3, H, W) to tokens (B, 1 + H W / 256, 384), class token first."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, _WIDTH, _PATCH_PX, stride=_PATCH_PX)
        self.embed = TokenEmbedding(_WIDTH, _GRID)
        self.blocks = nn.Sequential(*(EncoderBlock(_WIDTH, _HEADS, mlp_ratio=_MLP_RATIO) for _ in range(depth)))
        self.norm = nn.LayerNorm(_WIDTH, eps=NORM_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images."""
        encoded: Tensor = self.norm(self.blocks(self.embed(self.patches(images))))
        return encoded


@register_model
class MViT(nn.Module):
    """Mask generator and classifier; 32,982,919 parameters with 7 classes.

    `attention` (B, 1, 3, H, W) in (0, 1) is the mask, of the image's own size; `features` (B, 384, H / 16, W / 16)
    are the classifier's tokens by position.

    Args:
        num_classes: K.
        mask_depth: layers of the mask generator.
        depth: layers of the classifier.
    """

    input_size = (224, 224)

    def __init__(self, *, num_classes: int, mask_depth: int = 6, depth: int = 12) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mask_encoder = Encoder(mask_depth)
        self.mask = nn.Linear(_WIDTH, 3 * _PATCH_PX**2)
        self.encoder = Encoder(depth)
        self.classifier = nn.Linear(_WIDTH, num_classes)
        initialize_tokens(self)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 224, 224) float.

        Raises:
            ValueError: if the sides are no multiples of 16 px.
        """
        height, width = images.shape[-2:]
        if height % _PATCH_PX or width % _PATCH_PX:
            raise ValueError(f"MViT takes images whose sides are multiples of {_PATCH_PX} px, not {width}x{height}")
        grid = (height // _PATCH_PX, width // _PATCH_PX)
        values = torch.sigmoid(self.mask(self.mask_encoder(images)[:, 1:]))
        mask = F.pixel_shuffle(values.transpose(1, 2).unflatten(2, grid), _PATCH_PX)
        tokens = self.encoder(images * mask)
        features = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
        return ModelOutput(self.classifier(tokens[:, 0]), features, mask.unsqueeze(1))
