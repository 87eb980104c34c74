"""PSR: the face at three scales, one of them enlarged by super-resolution, and the mean of their predictions.

Source: Vo et al., "Pyramid With Super Resolution for In-the-Wild Facial Expression Recognition", IEEE Access 2020,
section III; the super-resolution network: Lim et al., "Enhanced Deep Residual Networks for Single Image
Super-Resolution", CVPRW 2017, the baseline; the trunk: Simonyan and Zisserman, ICLR 2015, configuration D. The paper
starts from trained weights of both, here they are random. How large the spatial transformer is, is our choice.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.models.registry import ModelOutput, register_model, without_heads

_SR_WIDTH, _SR_BLOCKS = 64, 16


def _vgg_stage(in_channels: int, out_channels: int, repeats: int) -> nn.Sequential:
    """Build 3x3 convolutions of one width, each with normalization and ReLU, and a pool that halves the side."""
    layers: list[nn.Module] = []
    for number in range(repeats):
        layers += [
            nn.Conv2d(out_channels if number else in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class SpatialTransformer(nn.Module):
    """Turn, shift and scale each image as a small network decides; initially not at all.

    Source: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )  # fmt: skip
        self.pose = nn.Sequential(nn.Linear(10 * 16, 32), nn.ReLU(), nn.Linear(32, 6))
        last = self.pose[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, images: Tensor) -> Tensor:
        """Transform images (B, 3, H, W)."""
        pose = self.pose(self.look(images)).unflatten(1, (2, 3))
        grid = F.affine_grid(pose, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions with a skip, without normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = x + self.conv2(self.act(self.conv1(x)))
        return y


class SuperResolution(nn.Module):
    """EDSR's baseline for a factor of two, (B, 3, H, W) -> (B, 3, 2 H, 2 W)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, _SR_WIDTH, 3, padding=1)
        blocks = [ResidualConvolutions(_SR_WIDTH) for _ in range(_SR_BLOCKS)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(_SR_WIDTH, _SR_WIDTH, 3, padding=1))
        self.enlarge = nn.Sequential(nn.Conv2d(_SR_WIDTH, 4 * _SR_WIDTH, 3, padding=1), nn.PixelShuffle(2))
        self.tail = nn.Conv2d(_SR_WIDTH, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Enlarge images."""
        start = self.head(images)
        enlarged: Tensor = self.tail(self.enlarge(start + self.body(start)))
        return enlarged


@register_model
class PSR(nn.Module):
    """Spatial transformer, three branches with the first half of VGG-16 each, and a second half that they share.

    The branches see the image at half its side, that half enlarged by super-resolution, and the image itself. The
    logits are the logarithm of the mean of their probabilities. `extra["branch_logits"]` is (B, 3, K). 20,108,586
    parameters with 7 classes, of which the spatial transformer has 8,544.

    Args:
        num_classes: K.
        spatial_transformer: start with one, as in the paper.
    """

    input_size = (100, 100)

    def __init__(self, *, num_classes: int, spatial_transformer: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.transform = SpatialTransformer() if spatial_transformer else nn.Identity()
        self.enlarge = SuperResolution()
        self.branches = nn.ModuleList(
            nn.Sequential(_vgg_stage(3, 64, 2), _vgg_stage(64, 128, 2), _vgg_stage(128, 256, 3)) for _ in range(3)
        )
        self.shared = nn.Sequential(_vgg_stage(256, 512, 3), _vgg_stage(512, 512, 3))
        self.head = nn.Sequential(
            nn.BatchNorm1d(1024), nn.Dropout(0.25), nn.Linear(1024, 512), nn.ReLU(),
            nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, num_classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB images (B, 3, 100, 100) float, at least 64 px wide; there are no heads, so A = 0.

        `features` are those of the image at its own size.
        """
        images = self.transform(images)
        low = F.avg_pool2d(images, 2)
        scales = (low, self.enlarge(low), images)
        maps = [self.shared(branch(scale)) for branch, scale in zip(self.branches, scales, strict=True)]
        vectors = [torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1) for x in maps]
        branch_logits = torch.stack([self.head(vector) for vector in vectors], dim=1)
        logits = torch.log_softmax(branch_logits, dim=2).logsumexp(dim=1) - math.log(len(scales))
        return ModelOutput(logits, maps[-1], without_heads(maps[-1]), {"branch_logits": branch_logits})
