"""The mouth, which has more ways than the rest of the face together."""

import numpy as np
from numpy.typing import NDArray

from ddamfn.data.drawn.canvas import Canvas, Points, ellipse
from ddamfn.data.drawn.features import MOUTH_Y
from ddamfn.data.drawn.person import Person, Pose
from ddamfn.data.drawn.shape import FaceShape

_ACROSS = np.linspace(-1.0, 1.0, 49)


def _contours(person: Person, shape: FaceShape) -> tuple[Points, Points, Points, Points]:
    """Return outer upper, inner upper, inner lower and outer lower edge, each (49, 2) face units from left to right."""
    t = _ACROSS
    x = shape.mouth_width * person.mouth * t
    rise = shape.corner + shape.corner_right * (t > 0)
    # Raised corners lie on a U whose middle sinks a little; the whole mouth is not lifted.
    axis = MOUTH_Y - rise * (np.abs(t) ** 1.7 - 0.25)
    axis = axis - 0.02 * shape.pout * (1 - t**2)
    opening = 1.0 - np.abs(t) ** shape.square
    sneer = shape.sneer * np.exp(-(((np.abs(t) - 0.42) / 0.3) ** 2)) * (1 - t**4)
    inner_upper = axis - shape.open_upper * opening - 0.55 * sneer
    inner_lower = axis + shape.open_lower * opening
    bow = 1.0 - 0.28 * np.exp(-((t / 0.13) ** 2)) + 0.1 * np.exp(-(((np.abs(t) - 0.25) / 0.16) ** 2))
    outer_upper = inner_upper - 0.085 * shape.lip * bow * (1 - np.abs(t) ** 2.6) - 0.45 * sneer
    outer_lower = inner_lower + 0.115 * shape.lip * (1 - np.abs(t) ** 2.8)
    return tuple(np.stack([x, y], axis=1) for y in (outer_upper, inner_upper, inner_lower, outer_lower))  # type: ignore[return-value]


def _teeth(edge: Points, height: float, into: float) -> Points:
    """Return a strip of teeth that hangs from a lip's inner edge; `into` is 1 downwards, -1 upwards."""
    bow: NDArray[np.float64] = height * np.maximum(1 - 0.6 * _ACROSS**2, 0.0)
    return np.vstack([edge, (edge + np.stack([np.zeros_like(bow), into * bow], axis=1))[::-1]])


def paint_mouth(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape) -> tuple[Points, Points]:
    """Draw the mouth.

    Returns:
        (2,) its left and its right corner in face units, as the viewer sees them.
    """
    outer_upper, inner_upper, inner_lower, outer_lower = (pose.turn(edge, 0.05) for edge in _contours(person, shape))
    lips = np.vstack([outer_upper, outer_lower[::-1]])
    below = outer_lower[12:-12] + np.array([0.0, 0.07])
    canvas.stroke(below, 0.06, person.skin * 0.6, soft=0.04, opacity=0.45)
    canvas.fill(lips, person.lips, soft=0.012)
    canvas.fill(np.vstack([outer_upper, inner_upper[::-1]]), person.lips * 0.8, soft=0.015, opacity=0.7)
    shine = np.minimum(person.lips * 1.2 + 20, 255)
    canvas.stroke(0.5 * (inner_lower + outer_lower)[16:-16], 0.03 * shape.lip, shine, soft=0.02, opacity=0.5)
    gap = np.vstack([inner_upper, inner_lower[::-1]])
    if shape.open_lower > 0.015:
        inside = canvas.mask(gap)
        canvas.fill(gap, np.array([48.0, 16.0, 18.0]), soft=0.008)
        if shape.tongue > 0:
            x, y = inner_lower[24]
            canvas.fill(ellipse(x, y, 0.2, 0.11 * shape.tongue), np.array([190.0, 92.0, 96.0]), soft=0.02, clip=inside)
        tooth = np.array([240.0, 236.0, 226.0])
        height = shape.open_upper + shape.open_lower
        if shape.teeth_upper > 0:
            canvas.fill(
                _teeth(inner_upper, min(0.13, 0.7 * height) * shape.teeth_upper, 1.0), tooth, soft=0.006, clip=inside
            )
        if shape.teeth_lower > 0:
            canvas.fill(
                _teeth(inner_lower, min(0.09, 0.42 * height) * shape.teeth_lower, -1.0),
                tooth * 0.94,
                soft=0.006,
                clip=inside,
            )
        canvas.stroke(inner_upper, 0.014, person.lips * 0.4, soft=0.006, opacity=0.8)
    else:
        canvas.stroke(inner_upper, 0.026, person.lips * 0.38, soft=0.008, opacity=0.95)
    _paint_corners(canvas, person, shape, inner_upper)
    return inner_upper[0], inner_upper[-1]


def _paint_corners(canvas: Canvas, person: Person, shape: FaceShape, edge: Points) -> None:
    """Shade the dimples at the mouth's corners, deeper where a corner is drawn up or down."""
    for corner, pull in ((edge[0], shape.corner), (edge[-1], shape.corner + shape.corner_right)):
        depth = 0.35 + min(abs(pull) * 2.5, 0.5)
        canvas.fill(ellipse(corner[0], corner[1], 0.035, 0.035), person.skin * 0.38, soft=0.02, opacity=depth)
