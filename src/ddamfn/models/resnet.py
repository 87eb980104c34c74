"""Residual networks: the trunk of ResNet-18, and IR-18 and IR-50 of face recognition."""

import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.layers import fit_map
from ddamfn.models.registry import ModelOutput, register_model, without_heads

WIDTHS = (64, 128, 256, 512)
FEATURE_CHANNELS = WIDTHS[-1]
UNITS_18 = (2, 2, 2, 2)
UNITS_50 = (3, 4, 14, 3)
FEATURE_SIDE = 7
"""Side of IResNet's last map for 112-px images; the fully connected layer after it has one weight per position."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip, which is projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride)."""
        y = self.act(self.norm1(self.conv1(x)))
        activated: Tensor = self.act(self.norm2(self.conv2(y)) + self.shortcut(x))
        return activated


class ResNet18Trunk(nn.Sequential):
    """Image (B, 3, S, S) to map (B, 512, S / 32, S / 32): 7x7 for 224 px."""

    def __init__(self) -> None:
        super().__init__()
        width = WIDTHS[0]
        conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        for number, out in enumerate(WIDTHS, start=1):
            first = BasicBlock(width, out, stride=1 if number == 1 else 2)
            self.add_module(f"stage{number}", nn.Sequential(first, BasicBlock(out, out, stride=1)))
            width = out
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class IRUnit(nn.Module):
    """Normalize, convolve, PReLU, strided convolution, normalize; plus the input, subsampled or projected."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.norm_in = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.act = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm_out = nn.BatchNorm2d(out_channels)
        # A pool of one pixel takes every stride-th one. Kept also where it takes them all: the published count of
        # operations counts it.
        self.shortcut: nn.Module = nn.MaxPool2d(1, stride)
        if in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride)."""
        y: Tensor = self.norm_out(self.conv2(self.act(self.conv1(self.norm_in(x))))) + self.shortcut(x)
        return y


class IRTrunk(nn.Sequential):
    """Image (B, 3, S, S) to map (B, C, S / 2^n, S / 2^n) after n stages, each of which halves the side.

    Args:
        units: number of units of each stage; their widths are 64, 128, 256 and 512 channels.
    """

    def __init__(self, units: tuple[int, ...]) -> None:
        super().__init__()
        width = WIDTHS[0]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))
        for number, repeats in enumerate(units, start=1):
            first = IRUnit(width, WIDTHS[number - 1], stride=2)
            width = WIDTHS[number - 1]
            rest = [IRUnit(width, width, stride=1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(first, *rest))


class IResNet(nn.Module):
    """Four stages, dropout, a fully connected embedding of unit length, linear layer.

    Args:
        num_classes: K.
        units: number of units of each of the four stages.
        embedding_dim: D of the embedding before the classifier.
        drop_rate: dropout on the map before the embedding.
    """

    input_size = (112, 112)

    def __init__(
        self, *, num_classes: int, units: tuple[int, ...], embedding_dim: int = 512, drop_rate: float = 0.4
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = IRTrunk(units)
        self.norm_map = nn.BatchNorm2d(FEATURE_CHANNELS)
        self.drop = nn.Dropout(drop_rate)
        self.project = nn.Linear(FEATURE_CHANNELS * FEATURE_SIDE**2, embedding_dim)
        self.norm = nn.BatchNorm1d(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 112, 112) float; there are no heads, so A = 0."""
        features = fit_map(self.trunk(images), FEATURE_SIDE)
        embedding = self.norm(self.project(self.drop(self.norm_map(features)).flatten(1)))
        logits = self.classifier(F.normalize(embedding, dim=1))
        return ModelOutput(logits, features, without_heads(features))


@register_model
def iresnet18(*, num_classes: int, embedding_dim: int = 256, drop_rate: float = 0.4) -> IResNet:
    """IR-18; 17,596,039 parameters with 7 classes."""
    return IResNet(num_classes=num_classes, units=UNITS_18, embedding_dim=embedding_dim, drop_rate=drop_rate)


@register_model
def iresnet50(*, num_classes: int, embedding_dim: int = 512, drop_rate: float = 0.4) -> IResNet:
    """IR-50; 43,578,567 parameters with 7 classes."""
    return IResNet(num_classes=num_classes, units=UNITS_50, embedding_dim=embedding_dim, drop_rate=drop_rate)
