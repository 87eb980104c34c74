"""Attention along the two directions of a map: inside MFN by average pooling, in DDAN by learned weights.

Source: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, section 3; Zhang et al. 2023,
section 3.3, for the head.
"""

import torch
from torch import Tensor, nn


class DirectionalGates(nn.Module):
    """From one descriptor a row and one a column to a gate in (0, 1) for each.

    Both descriptors pass the same narrow 1x1 convolution, so that rows and columns speak of the same features, and
    part again into two 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.gate_h = nn.Conv2d(hidden, channels, 1)
        self.gate_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Gate rows (B, C, H, 1) and columns (B, C, 1, W); the gates have the same shapes, values in (0, 1)."""
        height, width = rows.shape[2], columns.shape[3]
        both = torch.cat([rows, columns.transpose(2, 3)], dim=2)
        hidden = self.act(self.norm(self.squeeze(both)))
        hidden_h, hidden_w = torch.split(hidden, [height, width], dim=2)
        return torch.sigmoid(self.gate_h(hidden_h)), torch.sigmoid(self.gate_w(hidden_w.transpose(2, 3)))


class CoordinateAttention(nn.Module):
    """Weigh a map by what its rows and its columns hold: (B, C, H, W) -> same shape.

    Kept because the authors' network has it so: here rows and columns are averages, not learned sums; "GDConv in place
    of average pooling" is true of DDAN's heads alone.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = DirectionalGates(channels, hidden=max(8, channels // 32))

    def forward(self, x: Tensor) -> Tensor:
        """Weigh x (B, C, H, W)."""
        gate_h, gate_w = self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))
        weighed: Tensor = x * gate_w * gate_h
        return weighed
