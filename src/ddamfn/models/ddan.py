"""DDAN: independent dual-direction attention heads over MFN's map, joined by their maximum.

Source: Zhang et al. 2023, section 3.3. The paper draws the heads; the widths were read from parameter counts.
"""

import torch
from torch import Tensor, nn

from ddamfn.models.attention import DirectionalGates
from ddamfn.models.blocks import GDConv


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
        side: S of the map; the learned sums are as long, so it is fixed (7 for 112-px pictures).
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

        After attention all is linear: GDConv's weight of the position, batch normalisation's scale of the channel, the
        classifier's weight. The sum over positions is the logit but for a constant of each class, of the
        classifier's bias and normalisation's mean and shift. In training the batch's own statistics scale.

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
        """Logits (B, K) of a map that attention has weighed already."""
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits
