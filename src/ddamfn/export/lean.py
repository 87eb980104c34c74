"""The same function in fewer and faster steps: networks rewritten for inference before they are exported.

ONNX Runtime keeps convolutions, pooling, nearest upsampling and same-shape products in a blocked memory layout of its
own; every PReLU, mean, split, transpose or broadcast product in between makes it convert back and forth, which costs
more than the convolutions themselves. Here those steps are written as what the layout knows. Each rewriting is exact up
to rounding:

- batch normalization is folded into the convolution before it;
- PReLU becomes `p x + relu(q x)` with per-channel constants;
- the mixed depthwise convolutions become one with the largest kernel, smaller kernels padded by zeros;
- rows and columns pass the shared 1x1 convolution one after the other, without concatenation and transposition;
- means over rows and columns become average pooling; gates are repeated to full size before they are multiplied.

Source: BatchNorm folding as in Jacob et al., CVPR 2018, section 3.2; the rest is algebra.
"""

import copy
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ddamfn.models.layers import (
    ConvBlock,
    CoordinateAttention,
    DirectionalGates,
    LinearBlock,
    MixBottleneck,
    MixedDepthwiseConv,
)

Precision = Literal["float32", "float16"]

_BLOCK = 16
"""Channels of one block of the runtime's layout with AVX-512; a multiple serves narrower machines too."""

SMALLEST_ROUNDED = 256
"""Parameters of fewer numbers keep float32: biases and slopes weigh nothing in the file, and their errors reach every
pixel."""


def lean(network: nn.Module, precision: Precision = "float32") -> nn.Module:
    """A copy of the network for inference that computes the same in fewer steps.

    Blocks that this file does not know stay as they are, so any network may be given.

    Args:
        network: trained, on any device; it is not changed.
        precision: `float16` rounds large parameters to what float16 can hold; they stay float32 tensors.

    Returns:
        The copy, on the CPU, float32, in evaluation mode, its parameters without gradients.
    """
    # Folded in float64: rounding once at the end keeps the difference near 1e-7.
    rewritten = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    rewritten = _rewrite(rewritten).float()
    if precision == "float16":
        for parameter in rewritten.parameters():
            if parameter.numel() >= SMALLEST_ROUNDED:
                parameter.data = parameter.data.half().float()
    return rewritten


def _rewrite(module: nn.Module) -> nn.Module:
    """Replace a known block, or else the known blocks inside."""
    for kind, replacement in _REPLACEMENTS:
        if isinstance(module, kind):
            return replacement(module)
    for name, child in module.named_children():
        setattr(module, name, _rewrite(child))
    return module


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """One convolution with bias that does the work of two modules."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


class SplitPReLU(nn.Module):
    """PReLU as `sign * (p x + relu(q x))`, (B, C, H, W) -> same shape; `sign` is left to the layer that follows.

    For a slope a <= 1: p = a, q = 1 - a, sign = 1. A steeper negative side is a concave function, which no sum with a
    ReLU gives, so there the negative of it is computed: p = -1, q = 1 - a, sign = -1.
    """

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        steep = slope > 1
        self.sign = torch.where(steep, -1.0, 1.0).to(slope)
        self.linear = nn.Parameter(torch.where(steep, -1.0, slope).reshape(-1, 1, 1, 1), requires_grad=False)
        self.rectified = nn.Parameter((1 - slope).reshape(-1, 1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activate (B, C, H, W), up to the sign."""
        # Scaling by depthwise 1x1 convolutions, because the runtime adds the second one to the first while computing
        # it.
        channels = self.linear.shape[0]
        rectified = F.relu(F.conv2d(x, self.rectified, groups=channels))
        return F.conv2d(x, self.linear, groups=channels) + rectified


class SteepPReLU(nn.Module):
    """PReLU of any slope a as `a x + (1 - a) relu(x)`, (B, C, H, W) -> same shape, where no layer takes over a sign.

    One step more than `SplitPReLU`, but its parameters keep their names in the exported file, as those of a plain PReLU
    with few channels would not.
    """

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.linear = nn.Parameter(slope.detach().reshape(-1, 1, 1, 1), requires_grad=False)
        self.rectified = nn.Parameter((1 - slope.detach()).reshape(-1, 1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activate (B, C, H, W)."""
        channels = self.linear.shape[0]
        rectified = F.conv2d(F.relu(x), self.rectified, groups=channels)
        return F.conv2d(x, self.linear, groups=channels) + rectified


def _activation(act: nn.Module) -> nn.Module:
    """The leaner form of a PReLU; another activation stays as it is."""
    if not isinstance(act, nn.PReLU):
        return act
    return SplitPReLU(act.weight) if bool((act.weight <= 1).all()) else SteepPReLU(act.weight)


def _lean_conv_block(block: ConvBlock) -> nn.Module:
    return nn.Sequential(_folded(block.conv, block.norm), _activation(block.act))


def _lean_linear_block(block: LinearBlock) -> nn.Module:
    return _folded(block.conv, block.norm)


class LeanMixed(nn.Module):
    """`MixedDepthwiseConv` as one depthwise convolution with the largest kernel.

    The kernels are kept at their own sizes and padded when the network runs. The runtime does that once, when it loads
    the file, so the file need not hold the zeros.
    """

    def __init__(self, mixed: MixedDepthwiseConv) -> None:
        super().__init__()
        parts = [conv for conv in mixed.convs if isinstance(conv, nn.Conv2d)]
        self.kernels = nn.ParameterList(nn.Parameter(conv.weight.detach(), requires_grad=False) for conv in parts)
        self.stride = parts[0].stride[0]

    def multiply(self, sign: Tensor) -> None:
        """Take over a factor for each channel, (C,), from the layer before."""
        for kernel, part in zip(self.kernels, sign.split([len(k) for k in self.kernels]), strict=True):
            kernel.mul_(part.reshape(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        side = max(kernel.shape[-1] for kernel in self.kernels)
        padded = [F.pad(kernel, [(side - kernel.shape[-1]) // 2] * 4) for kernel in self.kernels]
        weight = torch.cat(padded)
        return F.conv2d(x, weight, stride=self.stride, padding=side // 2, groups=len(weight))


class LeanGates(nn.Module):
    """`DirectionalGates` for rows (B, C, H, 1) and columns (B, C, 1, W) one after the other; same gates.

    The narrow map is padded with channels that stay zero (h-swish(0) = 0): a narrower one than a block would leave the
    layout. As in `LeanMixed` the file does not hold the zeros.
    """

    def __init__(self, gates: DirectionalGates) -> None:
        super().__init__()
        squeeze = _folded(gates.squeeze, gates.norm)
        assert squeeze.bias is not None
        self.more = -squeeze.out_channels % _BLOCK
        self.squeeze = nn.Parameter(squeeze.weight.flatten(1), requires_grad=False)
        self.bias = nn.Parameter(F.pad(squeeze.bias, (0, self.more)), requires_grad=False)
        self.gate_h, self.gate_w = gates.gate_h, gates.gate_w

    def forward(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Gate rows and columns; the gates have the same shapes, values in (0, 1)."""
        return self._gate(rows, self.gate_h), self._gate(columns, self.gate_w)

    def _gate(self, x: Tensor, gate: nn.Conv2d) -> Tensor:
        # Padded as matrices, then reshaped: a padding right before a convolution is taken for one of its input by the
        # runtime, even if it is of the weights.
        squeeze = F.pad(self.squeeze, (0, 0, 0, self.more)).reshape(-1, self.squeeze.shape[1], 1, 1)
        weight = F.pad(gate.weight.flatten(1), (0, self.more)).reshape(len(gate.weight), -1, 1, 1)
        return torch.sigmoid(F.conv2d(F.hardswish(F.conv2d(x, squeeze, self.bias)), weight, gate.bias))


class LeanCoordinateAttention(nn.Module):
    """`CoordinateAttention` by pooling and upsampling, (B, C, H, W) -> same shape."""

    def __init__(self, attention: CoordinateAttention) -> None:
        super().__init__()
        self.gates = LeanGates(attention.gates)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh a map."""
        height, width = x.shape[2], x.shape[3]
        gate_h, gate_w = self.gates(F.avg_pool2d(x, (1, width)), F.avg_pool2d(x, (height, 1)))
        over_rows = F.interpolate(gate_h, scale_factor=(1, width), mode="nearest")
        over_columns = F.interpolate(gate_w, scale_factor=(height, 1), mode="nearest")
        return x * over_columns * over_rows


class LeanBottleneck(nn.Module):
    """`MixBottleneck` of leaner parts."""

    def __init__(self, block: MixBottleneck) -> None:
        super().__init__()
        slope = block.expand.act
        assert isinstance(slope, nn.PReLU)
        self.expand = _folded(block.expand.conv, block.expand.norm)
        self.act = SplitPReLU(slope.weight)
        self.mix = LeanMixed(block.mix)
        self.mix.multiply(self.act.sign)
        self.attend = _rewrite(block.attend)
        self.project = _lean_linear_block(block.project)
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        """Pass one bottleneck."""
        y: Tensor = self.project(self.attend(self.mix(self.act(self.expand(x)))))
        return x + y if self.residual else y


_REPLACEMENTS: tuple[tuple[type[nn.Module], Callable[..., nn.Module]], ...] = (
    (MixBottleneck, LeanBottleneck),
    (CoordinateAttention, LeanCoordinateAttention),
    (DirectionalGates, LeanGates),
    (ConvBlock, _lean_conv_block),
    (LinearBlock, _lean_linear_block),
)
