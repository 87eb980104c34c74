"""Parts of vision transformers: patches as tokens, self-attention that may lose a head, encoder blocks.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1; Touvron et al., "Training
data-efficient image transformers", ICML 2021, for sizes and initialization.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


def initialize_tokens(module: nn.Module) -> None:
    """Initialize linear weights and embeddings from a normal of deviation 0.02, cut at two; biases are zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split the width of tokens among heads, (B, N, D) -> (B, heads, N, D / heads)."""
    batch, count, width = tokens.shape
    return tokens.reshape(batch, count, heads, width // heads).transpose(1, 2)


def join_heads(tokens: Tensor) -> Tensor:
    """Undo `split_heads`, (B, heads, N, d) -> (B, N, heads d)."""
    return tokens.transpose(1, 2).flatten(2)


class DropOne(nn.Module):
    """While training, zero one entry of an axis in a share `rate` of samples: a whole map, or a whole head.

    Unlike in dropout the rest is not scaled up.

    Source: Xue et al., "TransFER", ICCV 2021, sections 3.2 and 3.4.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is a probability from 0 to 1, not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop along the second axis of x (B, A, ...)."""
        if not self.training or self.rate == 0:
            return x
        batch, entries = x.shape[:2]
        chosen = torch.randint(entries, (batch, 1), device=x.device)
        loses = torch.rand(batch, 1, device=x.device) < self.rate
        dropped = loses & (torch.arange(entries, device=x.device) == chosen)
        return x.masked_fill(dropped.reshape(batch, entries, *[1] * (x.ndim - 2)), 0)


class DropPath(nn.Module):
    """While training, zero a residual branch in some samples and scale the others up.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of x (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class SelfAttention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> same shape; `head_drop` is the probability of losing one head."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True, head_drop: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.drop_head = DropOne(head_drop)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend among all tokens of x."""
        queries, keys, values = (split_heads(part, self.heads) for part in self.qkv(tokens).chunk(3, dim=-1))
        gathered = self.drop_head(F.scaled_dot_product_attention(queries, keys, values))
        projected: Tensor = self.project(join_heads(gathered))
        return projected


class FeedForward(nn.Sequential):
    """The two-layer MLP of every token, (B, N, D) -> same shape."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.narrow = nn.Linear(hidden, width)


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP with skips, (B, N, D) -> same shape; `mlp_ratio` is hidden width / D."""

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: int, qkv_bias: bool = True, head_drop: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attend = SelfAttention(width, heads, qkv_bias=qkv_bias, head_drop=head_drop)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.think = FeedForward(width, mlp_ratio * width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the block."""
        tokens = tokens + self.attend(self.norm1(tokens))
        passed: Tensor = tokens + self.think(self.norm2(tokens))
        return passed


class TokenEmbedding(nn.Module):
    """Turn a map (B, D, G, G) into tokens (B, 1 + G G, D): class token first, positions (resampled) added."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Flatten the positions of x (B, D, H, W), row by row, and add class token and positions."""
        tokens = x.flatten(2).transpose(1, 2)
        first = self.class_token.expand(x.shape[0], -1, -1)
        return torch.cat([first, tokens], dim=1) + self._positions(x.shape[2], x.shape[3])

    def _positions(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.grid, self.grid):
            return self.positions
        first, rest = self.positions[:, :1], self.positions[:, 1:]
        plane = rest.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        fitted = F.interpolate(plane, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([first, fitted.flatten(2).transpose(1, 2)], dim=1)
