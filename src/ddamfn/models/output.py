"""What every network of the registry returns."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

# A plain dictionary, because torch looks for tensors in those (export, compile, data parallelism). Its type is that of
# a mapping, so that nobody writes to it.
_NOTHING: Mapping[str, Tensor] = {}


class ModelOutput(NamedTuple):
    """One forward pass over B images.

    Attributes:
        logits: (B, K) float, before softmax, in the order of the labels that the network was trained with.
        features: (B, C, H, W) float, the last spatial map before the head; (B, 512, 7, 7) for DDAMFN at 112 px.
        attention: (B, A, C, H, W) float from 0 to 1, one map for each of A heads; C is 1 for maps of positions alone.
            A is 0 for a network without heads.
        extra: what the network's own objective needs beside these, by name; each network says what it gives. Empty for
            most, and no part of an exported network.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor
    extra: Mapping[str, Tensor] = _NOTHING

    def detach(self) -> "ModelOutput":
        """The same tensors, through which no gradient goes."""
        extra = {name: tensor.detach() for name, tensor in self.extra.items()}
        return ModelOutput(self.logits.detach(), self.features.detach(), self.attention.detach(), extra)


def without_heads(features: Tensor) -> Tensor:
    """The attention of a network that has no heads, (B, 0, C, H, W), for its map (B, C, H, W)."""
    return features.new_empty((features.shape[0], 0, *features.shape[1:]))
