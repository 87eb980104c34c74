"""TransFER: local attention trained with its maps dropped at random, and a transformer with its heads dropped.

Source: Xue et al., "TransFER: Learning Relation-aware Facial Expression Representations with Transformers", ICCV 2021,
section 3. Heads of self-attention are dropped, as the paper says; the authors' program drops one of the first tokens.
The paper starts from trained weights of both parts, here they are random.
"""

import torch
from torch import Tensor, nn

from ddamfn.models.layers import fit_map
from ddamfn.models.registry import ModelOutput, register_model
from ddamfn.models.resnet import UNITS_50, WIDTHS, IRTrunk
from ddamfn.models.vit import NORM_EPS, DropOne, EncoderBlock, TokenEmbedding, initialize_tokens

_CHANNELS, _SIDE = WIDTHS[2], 14
_WIDTH, _HEADS, _MLP_RATIO = 768, 8, 3


class LocalAttention(nn.Sequential):
    """One local branch: a map of positions in (0, 1), (B, 256, H, W) -> (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(_CHANNELS, 16, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.act = nn.ReLU()
        self.point = nn.Conv2d(16, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(1)
        self.gate = nn.Sigmoid()


@register_model
class TransFER(nn.Module):
    """Three stages of IR-50, local branches joined by their maximum, and a transformer over the 14x14 positions.

    65,217,835 parameters with 7 classes.

    `attention` (B, A, 1, 14, 14) are the local branches' maps; while training, one of them may be all zeros.

    Args:
        num_classes: K.
        num_branches: A, the local branches; 2 in the paper.
        depth: layers of the transformer.
        map_drop: probability that a sample loses one branch's map while training (multi-attention dropping).
        head_drop: probability that it loses one head of self-attention, in each layer anew (multi-head self-attention
            dropping).
    """

    input_size = (112, 112)

    def __init__(
        self,
        *,
        num_classes: int,
        num_branches: int = 2,
        depth: int = 8,
        map_drop: float = 0.6,
        head_drop: float = 0.3,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = IRTrunk(UNITS_50[:3])
        self.branches = nn.ModuleList(LocalAttention() for _ in range(num_branches))
        self.drop_map = DropOne(map_drop)
        self.widen = nn.Conv2d(_CHANNELS, _WIDTH, 1)
        self.embed = TokenEmbedding(_WIDTH, _SIDE)
        blocks = [
            EncoderBlock(_WIDTH, _HEADS, mlp_ratio=_MLP_RATIO, qkv_bias=False, head_drop=head_drop)
            for _ in range(depth)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(_WIDTH, eps=NORM_EPS)
        self.classifier = nn.Linear(_WIDTH, num_classes)
        initialize_tokens(self)
        nn.init.zeros_(self.classifier.weight)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 112, 112) float."""
        features = fit_map(self.trunk(images), _SIDE)
        attention = self.drop_map(torch.stack([branch(features) for branch in self.branches], dim=1))
        tokens = self.embed(self.widen(features * attention.amax(dim=1)))
        face = self.norm(self.blocks(tokens))[:, 0]
        return ModelOutput(self.classifier(face), features, attention)
