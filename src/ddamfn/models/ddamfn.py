"""DDAMFN: MFN's map, DDAN's heads.

Source: Zhang et al., "A Dual-Direction Attention Mixed Feature Network for Facial Expression Recognition", Electronics
2023, 12(17), 3595.
"""

from torch import Tensor, nn

from ddamfn.models.ddan import DDAN
from ddamfn.models.mfn import FEATURE_CHANNELS, FEATURE_SIDE, MFNTrunk, fit_to_head
from ddamfn.models.output import ModelOutput
from ddamfn.models.registry import register_model


class DDAMFN(nn.Module):
    """The whole network.

    Args:
        num_classes: K.
        num_heads: attention heads; 2 in the paper, 0 gives trunk, GDConv and linear layer.
        mixed_kernels: see `MFNTrunk`.
        coordinate_attention: see `MFNTrunk`.
        drop_path: see `MFNTrunk`.
    """

    input_size = (112, 112)

    def __init__(
        self,
        *,
        num_classes: int,
        num_heads: int = 2,
        mixed_kernels: bool = True,
        coordinate_attention: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.trunk = MFNTrunk(
            mixed_kernels=mixed_kernels, coordinate_attention=coordinate_attention, drop_path=drop_path
        )
        self.ddan = DDAN(channels=FEATURE_CHANNELS, side=FEATURE_SIDE, num_classes=num_classes, num_heads=num_heads)

    def forward(self, images: Tensor, *, class_maps: bool = False) -> ModelOutput:
        """Classify normalised RGB pictures (B, 3, 112, 112) float; `extra` holds "class_maps" where asked for."""
        features = fit_to_head(self.trunk(images))
        logits, attention = self.ddan(features)
        extra = {"class_maps": self.ddan.class_maps(features, attention)} if class_maps else {}
        return ModelOutput(logits, features, attention, extra)


@register_model
def ddamfn(
    *,
    num_classes: int,
    num_heads: int = 2,
    mixed_kernels: bool = True,
    coordinate_attention: bool = True,
    drop_path: float = 0.0,
) -> DDAMFN:
    """DDAMFN; 4,105,999 parameters with 7 classes and 2 heads."""
    return DDAMFN(
        num_classes=num_classes,
        num_heads=num_heads,
        mixed_kernels=mixed_kernels,
        coordinate_attention=coordinate_attention,
        drop_path=drop_path,
    )
