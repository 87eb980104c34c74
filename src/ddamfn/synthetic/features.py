"""Eyes, brows, nose, glasses and mouth of a synthetic face."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.synthetic.canvas import Canvas, Points, ellipse, smooth
from ddamfn.synthetic.expressions import FaceShape
from ddamfn.synthetic.person import Person, Pose

EYE_X, NOSE_Y, MOUTH_Y = 0.45, 0.53, 1.0
"""Positions of eyes, nose tip and mouth in face units: the proportions of an average adult."""

_ACROSS = np.linspace(-1.0, 1.0, 33)


def _lid(person: Person, side: float, height: float, slant: float, up: bool) -> Points:
    """Return one lid's edge from the inner to the outer corner as (33, 2) face units."""
    half = 0.215 * person.eye
    x = side * (EYE_X * person.eye_gap + half * _ACROSS)
    bow = height * (1.0 - np.abs(_ACROSS) ** 2.3)
    # The outer corner of a resting eye is slightly higher than the inner one.
    tilt = -0.018 * _ACROSS
    if up:
        hang = slant * np.clip(_ACROSS, -1.0, 1.0) * (1.0 - _ACROSS**4)
        return np.stack([x, tilt - bow + hang], axis=1)
    return np.stack([x, tilt + bow], axis=1)


def paint_eye(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, side: float) -> None:
    """Draw one eye; `side` is -1 for the viewer's left, 1 for the right."""
    upper = pose.turn(_lid(person, side, shape.lid_upper * person.eye, shape.lid_slant, up=True))
    lower = pose.turn(_lid(person, side, shape.lid_lower * person.eye, 0.0, up=False))
    opening = np.vstack([upper, lower[::-1]])
    clip = canvas.mask(opening)
    white = np.array([236.0, 232.0, 228.0]) * (0.86 + 0.14 * person.skin.mean() / 220)
    canvas.fill(opening, white, soft=0.006)
    center = np.array([[side * EYE_X * person.eye_gap + 0.07 * shape.gaze_x, -0.012 + 0.05 * shape.gaze_y]])
    x, y = pose.turn(center)[0]
    radius = 0.108 * person.eye
    canvas.fill(ellipse(x, y, radius, radius), person.iris * 0.6, soft=0.008, clip=clip)
    canvas.fill(ellipse(x, y, radius * 0.8, radius * 0.8), person.iris, soft=0.01, clip=clip)
    canvas.fill(ellipse(x, y, radius * 0.45, radius * 0.45), np.array([12.0, 10.0, 10.0]), soft=0.006, clip=clip)
    canvas.fill(ellipse(x - 0.035, y - 0.04, 0.022, 0.022), np.array([250.0, 250.0, 250.0]), clip=clip)
    # The upper lid casts a shadow on the eyeball; without it eyes stare even at rest.
    canvas.stroke(upper, 0.05, person.skin * 0.3, soft=0.02, opacity=0.55, clip=clip)
    lash = np.interp(_ACROSS, [-1.0, 0.0, 1.0], [0.018, 0.038, 0.045])
    canvas.stroke(upper, lash, person.skin * 0.16, soft=0.005, opacity=0.95)
    canvas.stroke(lower, 0.018, person.skin * 0.4, soft=0.008, opacity=0.7)
    crease = pose.turn(_lid(person, side, shape.lid_upper * person.eye + 0.055, shape.lid_slant, up=True))
    canvas.stroke(crease[3:-3], 0.018, person.skin * 0.5, soft=0.012, opacity=0.65)
    bag = pose.turn(_lid(person, side, shape.lid_lower * person.eye + 0.075 - 0.02 * shape.cheek, 0.0, up=False))
    canvas.stroke(bag[6:-6], 0.025, person.skin * 0.6, soft=0.02, opacity=0.25 + 0.35 * shape.cheek + 0.2 * person.age)


def paint_brow(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, side: float) -> None:
    """Draw one eyebrow; `side` as in `paint_eye`."""
    lift = shape.brow_lift_right if side > 0 else 0.0
    gap = EYE_X * person.eye_gap
    inner = [gap - 0.24 - shape.brow_pinch, -0.3 - shape.brow_inner - 0.5 * lift]
    middle = [gap + 0.06, -0.385 - 0.35 * shape.brow_inner - 0.75 * shape.brow_outer - 1.2 * lift]
    outer = [gap + 0.32, -0.29 - shape.brow_outer - 0.9 * lift]
    spine = smooth(np.array([inner, middle, outer]) * np.array([side, 1.0]), steps=12)
    taper = np.interp(np.linspace(0, 1, len(spine)), [0.0, 0.15, 0.6, 1.0], [0.7, 1.15, 0.95, 0.25])
    width = 0.085 * person.brow * taper
    dark = np.minimum(person.hair, person.skin * 0.55) * 0.85
    canvas.stroke(pose.turn(spine), width, dark, soft=0.014, opacity=0.92)


def paint_lines(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, head: Image.Image) -> None:
    """Draw the furrows that an expression makes: forehead, frown, nose bridge, nasolabial."""
    dark = person.skin * 0.48
    age = 0.7 + 0.3 * person.age
    for row, height in enumerate((-0.62, -0.74, -0.86)):
        spine = np.array([[-0.42, height + 0.02], [0.0, height - 0.02 - 0.2 * shape.brow_inner], [0.42, height + 0.02]])
        strength = max(shape.forehead, 0.15 * person.age) * age * (1.0 - 0.15 * row)
        canvas.stroke(pose.turn(smooth(spine)), 0.022, dark, soft=0.014, opacity=0.6 * strength, clip=head)
    for side in (-1.0, 1.0):
        frown = np.array([[0.1, -0.36], [0.085, -0.25], [0.1, -0.12]]) * np.array([side, 1.0])
        canvas.stroke(pose.turn(smooth(frown)), 0.03, dark, soft=0.013, opacity=0.8 * shape.frown * age, clip=head)
        for row in range(3):
            high = 0.02 + 0.1 * row
            wrinkle = np.array([[0.03, high], [0.12, high - 0.03], [0.19, high + 0.05]]) * np.array([side, 1.0])
            turned = pose.turn(smooth(wrinkle), 0.1)
            canvas.stroke(turned, 0.026, dark, soft=0.012, opacity=0.85 * shape.wrinkle, clip=head)
        strength = shape.fold + (shape.fold_right if side > 0 else 0.0)
        rise = shape.corner + (shape.corner_right if side > 0 else 0.0)
        reach = shape.mouth_width * person.mouth + 0.12
        fold = np.array([[0.25, 0.55], [reach - 0.03, 0.78 - 0.2 * rise], [reach + 0.03, MOUTH_Y + 0.08 - 0.4 * rise]])
        turned = pose.turn(smooth(fold * np.array([side, 1.0])))
        canvas.stroke(turned, 0.035, dark, soft=0.02, opacity=0.75 * strength * age, clip=head)


def paint_nose(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, light: float) -> Points:
    """Draw the nose and return its tip, (1, 2) in face units."""
    dark, bright = person.skin * 0.55, np.minimum(person.skin * 1.14 + 14, 255)
    wide, lift = 0.2 * person.nose * (1 + 0.2 * shape.wrinkle), 0.06 * shape.wrinkle
    shaded = -1.0 if light > 0 else 1.0
    for side in (-1.0, 1.0):
        opacity = 0.55 if side == shaded else 0.25
        flank = np.array([[0.1, -0.16], [0.11, 0.2], [wide * 0.95, NOSE_Y - 0.02 - lift]]) * np.array([side, 1.0])
        canvas.stroke(pose.turn(smooth(flank), 0.1), 0.09, dark, soft=0.04, opacity=opacity)
    bridge = np.array([[0.0, -0.1], [0.0, 0.2], [0.0, NOSE_Y - 0.04 - lift]])
    canvas.stroke(pose.turn(smooth(bridge), 0.2), 0.07, bright, soft=0.03, opacity=0.6)
    tip = pose.turn(np.array([[0.0, NOSE_Y - lift]]), 0.28)
    canvas.fill(ellipse(tip[0, 0], tip[0, 1] - 0.01, 0.08, 0.065), bright, soft=0.03, opacity=0.6)
    under = pose.turn(ellipse(0.0, NOSE_Y + 0.155 - lift, wide * 0.95, 0.05), 0.15)
    canvas.fill(under, dark, soft=0.04, opacity=0.6)
    for side in (-1.0, 1.0):
        hole = ellipse(side * 0.095 * person.nose, NOSE_Y + 0.105 - lift, 0.058, 0.03)
        canvas.fill(pose.turn(hole, 0.2), person.skin * 0.22, soft=0.012, opacity=0.9)
        outer, tip_y = wide * np.array([0.86, 1.08, 0.84]), NOSE_Y + np.array([-0.04, 0.06, 0.14]) - lift
        wing = np.stack([outer, tip_y], axis=1)
        canvas.stroke(pose.turn(smooth(wing * np.array([side, 1.0])), 0.1), 0.03, dark, soft=0.014, opacity=0.75)
    return tip


def paint_glasses(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw thin dark rims and a bridge if the person wears glasses."""
    if not person.glasses:
        return
    rim = np.array([30.0, 28.0, 32.0])
    for side in (-1.0, 1.0):
        ring = ellipse(side * EYE_X * person.eye_gap, 0.03, 0.34, 0.27)
        closed = pose.turn(np.vstack([ring, ring[:1]]), 0.08)
        canvas.stroke(closed, 0.035, rim, soft=0.005, opacity=0.85)
        temple = np.array([[side * 0.78, -0.02], [side * 0.98, -0.06]])
        canvas.stroke(pose.turn(temple), 0.035, rim, soft=0.005, opacity=0.85)
    bridge = smooth(np.array([[-0.11, 0.0], [0.0, -0.04], [0.11, 0.0]]))
    canvas.stroke(pose.turn(bridge, 0.12), 0.035, rim, soft=0.005, opacity=0.85)


_MOUTH_ACROSS = np.linspace(-1.0, 1.0, 49)


def _contours(person: Person, shape: FaceShape) -> tuple[Points, Points, Points, Points]:
    """Return the outer upper, inner upper, inner lower and outer lower edge, each (49, 2) face units, left to right."""
    t = _MOUTH_ACROSS
    x = shape.mouth_width * person.mouth * t
    rise = shape.corner + shape.corner_right * (t > 0)
    # Raised corners bend the mouth into a U; the whole mouth is not lifted.
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
    """Return a row of teeth at a lip's inner edge; `into` is 1 downwards, -1 upwards."""
    bow: NDArray[np.float64] = height * np.maximum(1 - 0.6 * _MOUTH_ACROSS**2, 0.0)
    return np.vstack([edge, (edge + np.stack([np.zeros_like(bow), into * bow], axis=1))[::-1]])


def paint_mouth(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape) -> tuple[Points, Points]:
    """Draw the mouth and return its left and right corner from the viewer's side, (2,) each, in face units."""
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
            upper = _teeth(inner_upper, min(0.13, 0.7 * height) * shape.teeth_upper, 1.0)
            canvas.fill(upper, tooth, soft=0.006, clip=inside)
        if shape.teeth_lower > 0:
            lower = _teeth(inner_lower, min(0.09, 0.42 * height) * shape.teeth_lower, -1.0)
            canvas.fill(lower, tooth * 0.94, soft=0.006, clip=inside)
        canvas.stroke(inner_upper, 0.014, person.lips * 0.4, soft=0.006, opacity=0.8)
    else:
        canvas.stroke(inner_upper, 0.026, person.lips * 0.38, soft=0.008, opacity=0.95)
    _paint_corners(canvas, person, shape, inner_upper)
    return inner_upper[0], inner_upper[-1]


def _paint_corners(canvas: Canvas, person: Person, shape: FaceShape, edge: Points) -> None:
    """Shade the dimples at the mouth's corners, deeper where a corner is raised or lowered."""
    for corner, pull in ((edge[0], shape.corner), (edge[-1], shape.corner + shape.corner_right)):
        depth = 0.35 + min(abs(pull) * 2.5, 0.5)
        canvas.fill(ellipse(corner[0], corner[1], 0.035, 0.035), person.skin * 0.38, soft=0.02, opacity=depth)
