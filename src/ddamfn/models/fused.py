"""Blocks fused for inference: `fuse` rewrites a network before export, `unfuse` reverses it.

ONNX Runtime keeps convolutions, pooling, nearest upsampling and same-shape products in a blocked memory layout; every
PReLU, mean, split, transpose or broadcast product in between makes it convert back and forth, which costs more than the
convolutions. Here those steps become operations of that layout, exact up to rounding: batch normalization is folded
into convolutions; PReLU becomes `p x + relu(q x)`; mixed kernels are zero-padded to the largest; rows and columns pass
the shared 1x1 convolution one after the other; their means become average pooling; gates are repeated to full size
before the product.

`unfuse` cannot separate folded statistics: normalizations return with mean 0 and variance 1, and `ddamfn.train.initial`
estimates them from images. An untrained network cannot be read back from ONNX: the exporter keeps equal tensors once,
under one name.

Source: BatchNorm folding as in Jacob et al., CVPR 2018, section 3.2; the rest is algebra.
"""

import copy
from collections.abc import Callable, Mapping

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

_BLOCK = 16
"""Channels of one block of the runtime's layout with AVX-512; a multiple serves narrower machines too."""

SMALLEST_ROUNDED = 256
"""Parameters of fewer numbers keep float32: biases and slopes weigh nothing in the file, and their errors reach every
pixel."""


def fuse(network: nn.Module, *, float16: bool = False) -> nn.Module:
    """Return a fused copy on the CPU in evaluation mode, without gradients; unknown blocks stay as they are.

    With `float16`, large parameters are rounded to float16 values but stay float32 tensors.
    """
    # Folded in float64: rounding once at the end keeps the difference near 1e-7.
    rewritten = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    rewritten = _fuse(rewritten).float()
    if float16:
        for parameter in rewritten.parameters():
            if parameter.numel() >= SMALLEST_ROUNDED:
                parameter.data = parameter.data.half().float()
    return rewritten


def unfuse(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Load fused weights into an unfused network of the same options, in place; biases of zeros may be left out.

    Raises ValueError if a weight is missing, has another shape, or is left over.
    """
    fused = _FusedValues(values)
    with torch.no_grad():
        _unfuse(network, "", fused)
    if left := sorted(set(values) - fused.used):
        raise ValueError(f"it holds {left[0]} and {len(left) - 1} more that this network has no place for")


class _FusedValues:
    """Hands out the tensors of a fused network and records which."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = values
        self.used: set[str] = set()

    def get(self, name: str) -> Tensor:
        if name not in self._values:
            raise ValueError(
                f"it does not hold {name} by that name: the export folded it, or the network has other options than "
                "its card records; load the run's folder or a .safetensors file"
            )
        self.used.add(name)
        return self._values[name]

    def bias(self, name: str, count: int) -> Tensor:
        """Return a bias of at least `count` values; the exporter leaves a bias of zeros out of the file."""
        return self.get(name) if name in self._values else torch.zeros(count)

    def copy(self, name: str, target: Tensor) -> None:
        self.put(self.get(name), target, name)

    def put(self, value: Tensor, target: Tensor, name: str) -> None:
        if value.numel() != target.numel():
            raise ValueError(f"{name} has the shape {tuple(value.shape)}, the network needs {tuple(target.shape)}")
        target.copy_(value.reshape(target.shape))


def _fuse(module: nn.Module) -> nn.Module:
    """Replace a known block, or otherwise the known blocks inside."""
    for kind, fuse_block, _ in _BLOCKS:
        if isinstance(module, kind):
            return fuse_block(module)
    for name, child in module.named_children():
        setattr(module, name, _fuse(child))
    return module


def _unfuse(module: nn.Module, prefix: str, values: _FusedValues) -> None:
    """Fill a known block, or otherwise the module's own tensors and its children."""
    for kind, _, unfuse_block in _BLOCKS:
        if isinstance(module, kind):
            unfuse_block(module, prefix, values)
            return
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        # Counts of batches matter to training alone and are never exported.
        if not name.endswith("num_batches_tracked"):
            values.copy(prefix + name, tensor)
    _unfuse_children(module, prefix, values)


def _unfuse_children(module: nn.Module, prefix: str, values: _FusedValues) -> None:
    for name, child in module.named_children():
        _unfuse(child, f"{prefix}{name}.", values)


def _fold(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """Return one convolution with bias that computes the same as two modules."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def _unfold(conv: nn.Module, norm: nn.Module, prefix: str, values: _FusedValues) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    values.copy(f"{prefix}weight", conv.weight)
    values.put(values.bias(f"{prefix}bias", norm.num_features), norm.bias, f"{prefix}bias")
    _rescale(conv, norm)


def _rescale(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale weights to the size of fresh ones by powers of two, without rounding; the normalization undoes it.

    The folded scale makes weights many times larger or smaller than fresh ones, and a learning rate would move them
    too little or too much.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kernels = conv.weight.flatten(1)
    # torch draws them evenly from +-1/sqrt(n), n numbers per kernel.
    fresh = (3 * kernels.shape[1]) ** -0.5
    size = kernels.square().mean(dim=1).sqrt()
    power = torch.where(size > 0, torch.log2(fresh / size).round(), 0.0)
    conv.weight.mul_(torch.exp2(power).reshape(-1, 1, 1, 1))
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.copy_((1.0 + norm.eps) ** 0.5 * torch.exp2(-power))


class SplitPReLU(nn.Module):
    """PReLU as `sign * (p x + relu(q x))`, (B, C, H, W) -> same shape; the next layer applies `sign`.

    For a slope a <= 1: p = a, q = 1 - a, sign = 1. A steeper negative side is a concave function, which no sum with
    a ReLU gives; its negative is computed: p = -1, q = 1 - a, sign = -1.
    """

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        steep = slope > 1
        self.sign = torch.where(steep, -1.0, 1.0).to(slope)
        self.linear = nn.Parameter(torch.where(steep, -1.0, slope).reshape(-1, 1, 1, 1), requires_grad=False)
        self.rectified = nn.Parameter((1 - slope).reshape(-1, 1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activate (B, C, H, W), up to the sign."""
        # Depthwise 1x1 convolutions scale, because the runtime adds the second one to the first while computing it.
        channels = self.linear.shape[0]
        rectified = F.relu(F.conv2d(x, self.rectified, groups=channels))
        return F.conv2d(x, self.linear, groups=channels) + rectified


class SteepPReLU(nn.Module):
    """PReLU of any slope a as `a x + (1 - a) relu(x)`, for where no next layer applies a sign.

    Kept because its parameters keep their names in the exported file, unlike those of a plain PReLU with few
    channels.
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


def _fuse_slope(act: nn.Module) -> nn.Module:
    """Return the fused form of a PReLU; another activation stays as it is."""
    if not isinstance(act, nn.PReLU):
        return act
    return SplitPReLU(act.weight) if bool((act.weight <= 1).all()) else SteepPReLU(act.weight)


def _unfuse_slope(act: nn.Module, prefix: str, values: _FusedValues) -> Tensor:
    """Fill a PReLU from its fused form; return the sign of each channel, (C,)."""
    assert isinstance(act, nn.PReLU)
    linear, rectified = values.get(f"{prefix}linear").flatten(), values.get(f"{prefix}rectified").flatten()
    steep = rectified < 0
    values.put(torch.where(steep, 1 - rectified, linear), act.weight, f"{prefix}linear")
    return torch.where(steep, -1.0, 1.0)


def _fuse_conv_block(block: ConvBlock) -> nn.Module:
    return nn.Sequential(_fold(block.conv, block.norm), _fuse_slope(block.act))


def _unfuse_conv_block(block: ConvBlock, prefix: str, values: _FusedValues) -> None:
    _unfold(block.conv, block.norm, f"{prefix}0.", values)
    _unfuse_slope(block.act, f"{prefix}1.", values)


def _fuse_linear_block(block: LinearBlock) -> nn.Module:
    return _fold(block.conv, block.norm)


def _unfuse_linear_block(block: LinearBlock, prefix: str, values: _FusedValues) -> None:
    _unfold(block.conv, block.norm, prefix, values)


class FusedMixedConv(nn.Module):
    """`MixedDepthwiseConv` as one depthwise convolution with the largest kernel.

    Kernels are stored at their own sizes; the runtime pads them once at load, so the file holds no zeros.
    """

    def __init__(self, mixed: MixedDepthwiseConv) -> None:
        super().__init__()
        parts = [conv for conv in mixed.convs if isinstance(conv, nn.Conv2d)]
        self.kernels = nn.ParameterList(nn.Parameter(conv.weight.detach(), requires_grad=False) for conv in parts)
        self.stride = parts[0].stride[0]

    def multiply(self, sign: Tensor) -> None:
        """Absorb a factor per channel, (C,), from the layer before."""
        for kernel, part in zip(self.kernels, sign.split([len(k) for k in self.kernels]), strict=True):
            kernel.mul_(part.reshape(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        side = max(kernel.shape[-1] for kernel in self.kernels)
        padded = [F.pad(kernel, [(side - kernel.shape[-1]) // 2] * 4) for kernel in self.kernels]
        weight = torch.cat(padded)
        return F.conv2d(x, weight, stride=self.stride, padding=side // 2, groups=len(weight))


class FusedGates(nn.Module):
    """`DirectionalGates` for rows (B, C, H, 1) and columns (B, C, 1, W) one after the other; same gates.

    The narrow map is padded with channels that stay zero (h-swish(0) = 0), because one narrower than a block leaves
    the layout.
    """

    def __init__(self, gates: DirectionalGates) -> None:
        super().__init__()
        squeeze = _fold(gates.squeeze, gates.norm)
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


def _unfuse_gates(gates: DirectionalGates, prefix: str, values: _FusedValues) -> None:
    values.copy(f"{prefix}squeeze", gates.squeeze.weight)
    assert gates.squeeze.bias is not None
    gates.squeeze.bias.zero_()
    # The fused bias is as long as a block of the runtime's layout; what is beyond the network's own is zero.
    bias = values.bias(f"{prefix}bias", gates.norm.num_features)[: gates.norm.num_features]
    values.put(bias, gates.norm.bias, f"{prefix}bias")
    _rescale(gates.squeeze, gates.norm)
    _unfuse(gates.gate_h, f"{prefix}gate_h.", values)
    _unfuse(gates.gate_w, f"{prefix}gate_w.", values)


class FusedCoordinateAttention(nn.Module):
    """`CoordinateAttention` by pooling and upsampling, (B, C, H, W) -> same shape."""

    def __init__(self, attention: CoordinateAttention) -> None:
        super().__init__()
        self.gates = FusedGates(attention.gates)

    def forward(self, x: Tensor) -> Tensor:
        """Weight a map."""
        height, width = x.shape[2], x.shape[3]
        gate_h, gate_w = self.gates(F.avg_pool2d(x, (1, width)), F.avg_pool2d(x, (height, 1)))
        over_rows = F.interpolate(gate_h, scale_factor=(1, width), mode="nearest")
        over_columns = F.interpolate(gate_w, scale_factor=(height, 1), mode="nearest")
        return x * over_columns * over_rows


class FusedBottleneck(nn.Module):
    """`MixBottleneck` built of fused parts."""

    def __init__(self, block: MixBottleneck) -> None:
        super().__init__()
        slope = block.expand.act
        assert isinstance(slope, nn.PReLU)
        self.expand = _fold(block.expand.conv, block.expand.norm)
        self.act = SplitPReLU(slope.weight)
        self.mix = FusedMixedConv(block.mix)
        self.mix.multiply(self.act.sign)
        self.attend = _fuse(block.attend)
        self.project = _fuse_linear_block(block.project)
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        """Apply the bottleneck."""
        y: Tensor = self.project(self.attend(self.mix(self.act(self.expand(x)))))
        return x + y if self.residual else y


def _unfuse_bottleneck(block: MixBottleneck, prefix: str, values: _FusedValues) -> None:
    _unfold(block.expand.conv, block.expand.norm, f"{prefix}expand.", values)
    sign = _unfuse_slope(block.expand.act, f"{prefix}act.", values)
    for index, (conv, part) in enumerate(zip(block.mix.convs, sign.split(block.mix.splits), strict=True)):
        assert isinstance(conv, nn.Conv2d)
        name = f"{prefix}mix.kernels.{index}"
        values.put(values.get(name) * part.reshape(-1, 1, 1, 1), conv.weight, name)
    _unfuse(block.attend, f"{prefix}attend.", values)
    _unfuse(block.project, f"{prefix}project.", values)


_BLOCKS: tuple[tuple[type[nn.Module], Callable[..., nn.Module], Callable[..., None]], ...] = (
    (MixBottleneck, FusedBottleneck, _unfuse_bottleneck),
    (CoordinateAttention, FusedCoordinateAttention, _unfuse_children),
    (DirectionalGates, FusedGates, _unfuse_gates),
    (ConvBlock, _fuse_conv_block, _unfuse_conv_block),
    (LinearBlock, _fuse_linear_block, _unfuse_linear_block),
)
"""Training block, its fused form, and how it is filled from that."""
