"""Layers that several networks share: convolution blocks, mixed kernels, coordinate attention, resampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DirectionalGates(nn.Module):
    """Turn one descriptor per row and per column into gates in (0, 1), through a shared narrow 1x1 convolution."""

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
    """Weight a map by its rows and columns: (B, C, H, W) -> same shape.

    As in the authors' network, rows and columns are averaged; only DDAN's heads use GDConv in place of average
    pooling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = DirectionalGates(channels, hidden=max(8, channels // 32))

    def forward(self, x: Tensor) -> Tensor:
        """Weight x (B, C, H, W)."""
        gate_h, gate_w = self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))
        weighed: Tensor = x * gate_w * gate_h
        return weighed


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch normalization, PReLU with one slope per channel."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels)


class LinearBlock(nn.Sequential):
    """Convolution without bias and batch normalization, no activation: the linear end of a bottleneck."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 1, *, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)


class GDConv(LinearBlock):
    """Global depthwise convolution, (B, C, H, W) -> (B, C, 1, 1): average pooling with learned weights per position.

    Source: Chen et al., MobileFaceNets, CCBR 2018, section 3.2.
    """

    def __init__(self, channels: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__(channels, channels, kernel_size, groups=channels)


class MixedDepthwiseConv(nn.Module):
    """Depthwise convolutions of several odd kernel sizes, each on its own share of the channels.

    As in the authors' network, neither normalization nor activation follows before the attention.
    """

    def __init__(self, kernels: Sequence[int], splits: Sequence[int], *, stride: int = 1) -> None:
        super().__init__()
        self.splits = list(splits)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False)
            for kernel, width in zip(kernels, splits, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C, H, W); H and W are divided by the stride."""
        parts = torch.split(x, self.splits, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero a branch x (B, ...) for random images and divide the rest by 1 - `probability`, which keeps the mean.

    Random numbers come from torch's global generator of x's device.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, section 3; there prediction is scaled
    instead.
    """
    kept = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - probability)
    return x * kept.div_(1 - probability)


@dataclass(frozen=True)
class StageSpec:
    """One row of MFN's table: `repeats` equal bottlenecks; `splits` divide the `expand` channels by kernel size."""

    in_channels: int
    out_channels: int
    expand: int
    kernels: tuple[int, ...]
    splits: tuple[int, ...]
    stride: int
    repeats: int = 1

    @property
    def residual(self) -> bool:
        """Whether the bottleneck's input can be added to its output."""
        return self.stride == 1 and self.in_channels == self.out_channels


class MixBottleneck(nn.Module):
    """Expand (1x1), mix (depthwise), attend (coordinate attention), project (1x1, linear).

    With stride 1 and equal width it is MFN's *residual bottleneck*, the only one with `drop_path`; with stride 2
    its *non-residual block*.
    """

    def __init__(
        self, spec: StageSpec, *, mixed_kernels: bool, coordinate_attention: bool, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        kernels, splits = (spec.kernels, spec.splits) if mixed_kernels else ((3,), (spec.expand,))
        self.expand = ConvBlock(spec.in_channels, spec.expand)
        self.mix = MixedDepthwiseConv(kernels, splits, stride=spec.stride)
        self.attend = CoordinateAttention(spec.expand) if coordinate_attention else nn.Identity()
        self.project = LinearBlock(spec.expand, spec.out_channels)
        self.residual = spec.residual
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride)."""
        y: Tensor = self.project(self.attend(self.mix(self.expand(x))))
        if not self.residual:
            return y
        return x + (drop_path(y, self.drop_path) if self.training and self.drop_path else y)


def fit_map(features: Tensor, side: int) -> Tensor:
    """Resample a map (B, C, H, W) to (B, C, side, side), for heads with one weight per position; equal sizes pass."""
    if features.shape[-2:] == (side, side):
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
