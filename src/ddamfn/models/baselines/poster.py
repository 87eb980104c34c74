"""POSTER: cross-attention between image and landmark features, at three widths.

With Q, K and V the linear projections of each stream's tokens, the streams exchange their queries: the image stream
computes softmax(Q_lm K_img^T / sqrt d) V_img, the landmark stream softmax(Q_img K_lm^T / sqrt d) V_lm.

Where text and the authors' program differ, this follows the text: queries are projected (the program takes the other
stream's tokens as they are, see `query_projection`), and an image token is a patch of 2x2 positions (the program cuts
the flattened map into 49 pieces, which are not patches).

Our choice: the landmark branch is a MobileFaceNet that is trained with the rest, from expressions alone. The authors'
is frozen and was trained on 68 landmarks; weights of such a network can be loaded into `landmark_trunk`.

Source: Zheng et al., "POSTER: A Pyramid Cross-Fusion Transformer Network for Facial Expression Recognition", ICCVW
2023, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.layers import fit_map
from ddamfn.models.mobilefacenet import FEATURE_CHANNELS, FEATURE_SIDE, MobileFaceNetTrunk
from ddamfn.models.registry import ModelOutput, register_model, without_heads
from ddamfn.models.resnet import UNITS_50, WIDTHS, IRTrunk
from ddamfn.models.vit import NORM_EPS, DropPath, FeedForward, join_heads, split_heads

_WIDTH, _HEADS, _MLP_RATIO = FEATURE_CHANNELS, 8, 2
_STREAM = FEATURE_SIDE**2 + 1
"""Tokens of a stream: one per position, after their mean."""
_LARGEST_DROP = 0.1


class StreamBlock(nn.Module):
    """One stream's half of a block: gather from its own tokens what the other stream queries, then transform.

    With `query_projection` the queries are a projection of the other stream's tokens, otherwise the tokens
    themselves.
    """

    def __init__(self, width: int, *, query_projection: bool, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.query = nn.Linear(width, width) if query_projection else nn.Identity()
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.think = FeedForward(width, _MLP_RATIO * width)
        self.drop = DropPath(drop)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Transform the stream's tokens (B, N, D), queried by the other's (B, N, D)."""
        queries = split_heads(self.query(self.norm1(other)), _HEADS)
        keys, values = (split_heads(part, _HEADS) for part in self.key_value(self.norm1(own)).chunk(2, dim=-1))
        gathered = self.project(join_heads(F.scaled_dot_product_attention(queries, keys, values)))
        own = own + self.drop(gathered)
        passed: Tensor = own + self.drop(self.think(self.norm2(own)))
        return passed


class CrossFusion(nn.Module):
    """Both streams' halves and a mixing of all tokens, (B, 100, D) -> same shape; image tokens come first."""

    def __init__(self, width: int, *, query_projection: bool, drop: float) -> None:
        super().__init__()
        self.image = StreamBlock(width, query_projection=query_projection, drop=drop)
        self.landmark = StreamBlock(width, query_projection=query_projection, drop=drop)
        self.mix = nn.Conv1d(2 * _STREAM, 2 * _STREAM, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Fuse the streams."""
        image, landmark = tokens.chunk(2, dim=1)
        both = [self.image(image, landmark), self.landmark(landmark, image)]
        mixed: Tensor = self.mix(torch.cat(both, dim=1))
        return mixed


class PyramidLayer(nn.Module):
    """One fusion per width; the narrow ones are widened and added to the next."""

    def __init__(self, *, query_projection: bool, drop: float) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            CrossFusion(_WIDTH // part, query_projection=query_projection, drop=drop) for part in (1, 2, 4)
        )
        self.widen_small = nn.ConvTranspose1d(2 * _STREAM, 2 * _STREAM, 2, stride=2)
        self.widen_middle = nn.ConvTranspose1d(2 * _STREAM, 2 * _STREAM, 2, stride=2)

    def forward(self, large: Tensor, middle: Tensor, small: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse tokens of widths 512, 256 and 128, (B, 100, D) each."""
        large, middle, small = (level(x) for level, x in zip(self.levels, (large, middle, small), strict=True))
        middle = middle + self.widen_small(small)
        return large + self.widen_middle(middle), middle, small


@register_model
class POSTER(nn.Module):
    """Three stages of IR-50, MobileFaceNet, and layers of cross-fusion over 50 tokens of each.

    64,425,615 parameters with 7 classes, 58,906,255 without the projection of queries. The authors' program counts
    71.85 million: to the latter it adds 12,847,616 of a face-recognition head on IR-50 and some of a landmark head,
    neither of which contributes to the prediction.

    Args:
        num_classes: K.
        depth: layers: 8, 6 or 4 for the paper's large, base and small.
        query_projection: see the head of this file.
    """

    input_size = (112, 112)

    def __init__(self, *, num_classes: int, depth: int = 8, query_projection: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_trunk = IRTrunk(UNITS_50[:3])
        self.landmark_trunk = MobileFaceNetTrunk()
        self.image_tokens = nn.Linear(4 * WIDTHS[2], _WIDTH)
        self.positions = nn.Parameter(torch.zeros(1, _STREAM, _WIDTH))
        self.halve = nn.Conv1d(2 * _STREAM, 2 * _STREAM, 2, stride=2)
        self.quarter = nn.Conv1d(2 * _STREAM, 2 * _STREAM, 4, stride=4)
        drops = torch.linspace(0, _LARGEST_DROP, depth, device="cpu").tolist()
        self.layers = nn.ModuleList(PyramidLayer(query_projection=query_projection, drop=drop) for drop in drops)
        self.norm = nn.LayerNorm(_WIDTH, eps=NORM_EPS)
        self.excite = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.Sigmoid())
        self.classifier = nn.Linear(_WIDTH, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 112, 112) float; `features` are IR-50's (B, 256, 14, 14); A = 0."""
        features = fit_map(self.image_trunk(images), 2 * FEATURE_SIDE)
        image = self.image_tokens(_line_up(F.pixel_unshuffle(features, 2)))
        landmark = _line_up(fit_map(self.landmark_trunk(images), FEATURE_SIDE))
        large = torch.cat([_with_mean(image) + self.positions, _with_mean(landmark)], dim=1)
        levels = large, self.halve(large), self.quarter(large)
        for layer in self.layers:
            levels = layer(*levels)
        face = self.norm(levels[0][:, 0])
        return ModelOutput(self.classifier(face * self.excite(face)), features, without_heads(features))


def _line_up(x: Tensor) -> Tensor:
    """Flatten a map's positions into tokens, (B, D, H, W) -> (B, H W, D), row by row."""
    return x.flatten(2).transpose(1, 2)


def _with_mean(tokens: Tensor) -> Tensor:
    return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
