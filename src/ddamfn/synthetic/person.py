"""Identity and head pose of a synthetic person."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.synthetic.canvas import Color, Points

_SKINS = (
    (255, 224, 200), (244, 208, 180), (233, 190, 156), (214, 166, 128), (190, 138, 100),
    (160, 110, 76), (124, 82, 56), (92, 60, 42),
)  # fmt: skip
_HAIRS = (
    (24, 20, 20), (46, 32, 24), (78, 52, 34), (118, 82, 48), (176, 136, 84),
    (214, 182, 124), (140, 64, 34), (150, 150, 152), (222, 220, 216),
)  # fmt: skip
_IRISES = ((60, 38, 24), (92, 60, 34), (112, 96, 52), (84, 112, 78), (86, 120, 152), (108, 124, 132))

HAIR_STYLES = ("short", "parted", "fringe", "long", "curly", "bald")


@dataclass(frozen=True, slots=True)
class Person:
    """One synthetic person; lengths are factors of the average, colors RGB in 0..255."""

    skin: Color
    hair: Color
    iris: Color
    lips: Color
    cloth: Color
    style: str
    jaw: float
    length: float
    eye: float
    eye_gap: float
    nose: float
    mouth: float
    brow: float
    hairline: float
    beard: float
    glasses: bool
    age: float


@dataclass(frozen=True, slots=True)
class Pose:
    """The rotation of a head, in radians."""

    yaw: float
    pitch: float

    def turn(self, points: Points, bump: float = 0.0) -> Points:
        """Turn points (N, 2) of the frontal face with the head, an ellipsoid, above which they stand by `bump`."""
        x, y = points[:, 0], points[:, 1]
        depth = 0.8 * np.sqrt(np.maximum(1.0 - (x / 1.1) ** 2 - ((y - 0.1) / 1.9) ** 2, 0.0)) + bump
        turned_x = x * np.cos(self.yaw) + depth * np.sin(self.yaw)
        turned_y = y * np.cos(self.pitch) + depth * np.sin(self.pitch)
        return np.stack([turned_x, turned_y], axis=1)


def _pick(table: tuple[tuple[int, int, int], ...], generator: np.random.Generator, spread: float) -> Color:
    """Return a random color of a table, slightly changed."""
    color = np.array(table[int(generator.integers(len(table)))], dtype=np.float64)
    return np.clip(color + generator.normal(0.0, spread, 3), 0, 255)


def sample_person(generator: np.random.Generator) -> Person:
    """Sample a random person."""
    skin = _pick(_SKINS, generator, 3.0)
    reddish = np.array([0.80, 0.52, 0.50]) if generator.random() < 0.6 else np.array([0.86, 0.64, 0.62])
    style = HAIR_STYLES[int(generator.choice(len(HAIR_STYLES), p=[0.24, 0.2, 0.17, 0.2, 0.11, 0.08]))]
    return Person(
        skin=skin,
        hair=_pick(_HAIRS, generator, 3.0),
        iris=_pick(_IRISES, generator, 6.0),
        lips=skin * reddish,
        cloth=generator.uniform(20, 220, 3),
        style=style,
        jaw=float(generator.uniform(0.88, 1.08)),
        length=float(generator.uniform(0.93, 1.07)),
        eye=float(generator.uniform(0.92, 1.12)),
        eye_gap=float(generator.uniform(0.95, 1.06)),
        nose=float(generator.uniform(0.85, 1.15)),
        mouth=float(generator.uniform(0.92, 1.08)),
        brow=float(generator.uniform(0.75, 1.3)),
        hairline=float(generator.uniform(-0.08, 0.08)),
        beard=float(generator.choice([0.0, 0.35, 0.85], p=[0.82, 0.1, 0.08])) if style != "long" else 0.0,
        glasses=bool(generator.random() < 0.08),
        age=float(generator.uniform(0.0, 1.0)),
    )


def sample_pose(generator: np.random.Generator) -> Pose:
    """Sample a head pose: mostly frontal, up to about 20 degrees to a side."""
    yaw, pitch = np.clip(generator.normal(0.0, [0.13, 0.05]), -0.35, 0.13)
    return Pose(yaw=float(yaw), pitch=float(pitch))


def placement(side_px: int, head: float, tilt: float, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2, 3) matrix that puts a head into a square image; `head` and `shift` are shares of the side."""
    scale = head * side_px / 3.3
    cosine, sine = np.cos(tilt) * scale, np.sin(tilt) * scale
    linear = np.array([[cosine, -sine], [sine, cosine]])
    # The middle between crown (-1.68) and chin (1.62) goes to the center of the image.
    center = (0.5 + shift) * side_px - linear @ np.array([0.0, -0.03])
    return np.hstack([linear, center[:, None]])
