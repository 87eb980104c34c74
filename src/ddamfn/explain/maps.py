"""Maps over an aligned face: the network's own, and network-independent ones to compare with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.results import Face

_FLAT = 1e-3
"""Below this range of values a map singles out no place; `ddamfn.drawing` paints it in one color."""

_CENTER_WIDTH = 0.25
"""Standard deviation of the center map, as a share of the crop's side."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceMap:
    """One map over an aligned face.

    Attributes:
        name: short, for files and JSON, such as `head-1`.
        title: for people.
        expression: whose probability the map is measured by. The heads' maps belong to no class; they are measured by
            the predicted one.
        values: float32 (h, w), larger where the prediction depends more on the place; h and w are 7 for DDAMFN.
    """

    name: str
    title: str
    expression: str
    values: NDArray[np.float32]

    @property
    def flat(self) -> bool:
        """Whether all values are nearly the same, so that the map singles out no place."""
        return float(np.ptp(self.values)) < _FLAT


def attention_maps(face: Face) -> list[FaceMap]:
    """Return the heads' A maps and their maximum, by which the network multiplies its features; none without heads.

    The maps are the means over the channels, so the maximum here is that of the means.
    """
    if face.attention is None:
        return []
    answer = face.prediction.likeliest
    heads = [
        FaceMap(f"head-{number}", f"attention head {number}", answer, values)
        for number, values in enumerate(face.attention, start=1)
    ]
    return [*heads, FaceMap("maximum", "maximum of the heads", answer, face.attention.max(axis=0))]


def center_map(side: int = 7) -> NDArray[np.float32]:
    """Return a Gaussian in the middle of the crop, (side, side): the best guess without a network."""
    offset = (np.arange(side) + 0.5) / side - 0.5
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    return np.exp(-squared / (2 * _CENTER_WIDTH**2)).astype(np.float32)


def random_maps(count: int, generator: np.random.Generator, side: int = 7) -> list[NDArray[np.float32]]:
    """Return maps of independent uniform numbers, as coarse as the network's; `count` of (side, side)."""
    return [generator.random((side, side), dtype=np.float32) for _ in range(count)]
