"""ResNet-18, the backbone of half of the methods that DDAMFN is compared with.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1 and section 3.4; 11,176,512
parameters without a classifier. The published methods start from weights trained on MS-Celeb-1M, which was withdrawn;
here they are random.
"""

from torch import Tensor, nn

FEATURE_CHANNELS = 512
_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, which is projected where the shape changes."""

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
    """Picture (B, 3, S, S) to map (B, 512, S / 32, S / 32): 7x7 for 224 px."""

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTHS[0]
        conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        for number, out in enumerate(_WIDTHS, start=1):
            first = BasicBlock(width, out, stride=1 if number == 1 else 2)
            self.add_module(f"stage{number}", nn.Sequential(first, BasicBlock(out, out, stride=1)))
            width = out
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
