"""Where the five points of a face should lie in its crop."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import ConfigError

_TEMPLATE_SIDE_PX = 112

_ARCFACE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
_FRONTAL = [(33.566, 40.559), (78.321, 40.559), (55.338, 64.967), (38.479, 90.276), (73.591, 90.276)]
_FIVE_POSE = [
    [(55.550, 49.477), (62.116, 49.339), (38.075, 70.237), (55.017, 92.262), (61.466, 92.979)],  # left profile
    [(47.241, 48.598), (72.887, 49.540), (40.555, 71.067), (47.423, 93.643), (71.236, 94.353)],  # half left
    _FRONTAL,
    [(39.516, 49.540), (65.162, 48.598), (71.849, 71.067), (41.167, 94.353), (64.980, 93.643)],  # half right
    # Right profile. Kept because it was published so: its last point lies 8 px off the left profile's mirror image.
    [(50.225, 49.339), (56.791, 49.477), (74.266, 70.237), (50.875, 92.979), (65.317, 92.262)],
]


def _frozen(points: object) -> NDArray[np.float64]:
    array = np.array(points, dtype=np.float64)
    array.flags.writeable = False
    return array


TEMPLATES: dict[str, NDArray[np.float64]] = {
    "arcface": _frozen(_ARCFACE),
    "ddamfn_frontal": _frozen(_FRONTAL),
    "ddamfn_five_pose": _frozen(_FIVE_POSE),
}
"""Points of a face in a crop of 112 px by template name: (5, 2), or (P, 5, 2) for a set of poses, as (x, y) pixels in
the order viewer's left eye, right eye, nose, left and right corner of the mouth.

"arcface" leaves more room around the face (35 px from eye to eye) than the two of DDAMFN (45 px).

Source: "arcface": InsightFace, ArcFace (Deng et al. 2019). "ddamfn_*": DDAMFN++ (Zhang et al. 2023), InsightFace's
older five poses enlarged.
"""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How faces are laid into crops; it stands on the card of the weights that were trained with it.

    Attributes:
        template: a key of `TEMPLATES`.
        margin: how much more of the surroundings the crop shows than the template does: 0.1 is 10 % more on each axis,
            a negative number less. Above -1.
        side_px: the crop's side in pixels.

    Raises:
        ConfigError: an unknown template, or a margin or side out of range.
    """

    template: str
    margin: float = 0.0
    side_px: int = 112

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ConfigError(f"unknown alignment template {self.template!r}: choose one of {', '.join(TEMPLATES)}")
        if not -1 < self.margin < float("inf"):
            raise ConfigError(f"the alignment's margin must be above -1 and finite, not {self.margin}")
        if self.side_px < 1:
            raise ConfigError(f"the alignment's side must be at least 1 px, not {self.side_px}")

    def points(self) -> NDArray[np.float64]:
        """Return the template's points in this crop.

        Returns:
            (P, 5, 2) float64, (x, y) in pixels of the crop; P is the number of poses, 1 for most templates. A margin
            pulls the points towards the crop's centre by 1 / (1 + margin).
        """
        relative = TEMPLATES[self.template].reshape(-1, 5, 2) / _TEMPLATE_SIDE_PX - 0.5
        return (relative / (1 + self.margin) + 0.5) * self.side_px
