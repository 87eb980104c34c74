"""The features that carry an expression: eyes, brows, nose, mouth and the lines around them."""

import numpy as np
from PIL import Image

from ddamfn.data.drawn.canvas import Canvas, Points, ellipse, smooth
from ddamfn.data.drawn.person import Person, Pose
from ddamfn.data.drawn.shape import FaceShape

EYE_X, NOSE_Y, MOUTH_Y = 0.45, 0.53, 1.0
"""Where eyes, nose tip and mouth lie in face units, the proportions of an average adult."""

_ACROSS = np.linspace(-1.0, 1.0, 33)


def _lid(person: Person, side: float, height: float, slant: float, up: bool) -> Points:
    """Return one lid's edge from the inner to the outer corner as (33, 2) face units."""
    half = 0.215 * person.eye
    x = side * (EYE_X * person.eye_gap + half * _ACROSS)
    bow = height * (1.0 - np.abs(_ACROSS) ** 2.3)
    # The outer corner of a resting eye lies a little higher than the inner one.
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
    centre = np.array([[side * EYE_X * person.eye_gap + 0.07 * shape.gaze_x, -0.012 + 0.05 * shape.gaze_y]])
    x, y = pose.turn(centre)[0]
    radius = 0.108 * person.eye
    canvas.fill(ellipse(x, y, radius, radius), person.iris * 0.6, soft=0.008, clip=clip)
    canvas.fill(ellipse(x, y, radius * 0.8, radius * 0.8), person.iris, soft=0.01, clip=clip)
    canvas.fill(ellipse(x, y, radius * 0.45, radius * 0.45), np.array([12.0, 10.0, 10.0]), soft=0.006, clip=clip)
    canvas.fill(ellipse(x - 0.035, y - 0.04, 0.022, 0.022), np.array([250.0, 250.0, 250.0]), clip=clip)
    # The upper lid throws a shadow on the ball; without it eyes stare even at rest.
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
    width = (
        0.085 * person.brow * np.interp(np.linspace(0, 1, len(spine)), [0.0, 0.15, 0.6, 1.0], [0.7, 1.15, 0.95, 0.25])
    )
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
            canvas.stroke(
                pose.turn(smooth(wrinkle), 0.1), 0.026, dark, soft=0.012, opacity=0.85 * shape.wrinkle, clip=head
            )
        strength = shape.fold + (shape.fold_right if side > 0 else 0.0)
        rise = shape.corner + (shape.corner_right if side > 0 else 0.0)
        reach = shape.mouth_width * person.mouth + 0.12
        fold = np.array([[0.25, 0.55], [reach - 0.03, 0.78 - 0.2 * rise], [reach + 0.03, MOUTH_Y + 0.08 - 0.4 * rise]])
        canvas.stroke(
            pose.turn(smooth(fold * np.array([side, 1.0]))),
            0.035,
            dark,
            soft=0.02,
            opacity=0.75 * strength * age,
            clip=head,
        )


def paint_nose(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, light: float) -> Points:
    """Draw the nose.

    Returns:
        (1, 2) its tip in face units.
    """
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
        wing = np.array(
            [
                [wide * 0.86, NOSE_Y - 0.04 - lift],
                [wide * 1.08, NOSE_Y + 0.06 - lift],
                [wide * 0.84, NOSE_Y + 0.14 - lift],
            ]
        )
        canvas.stroke(pose.turn(smooth(wing * np.array([side, 1.0])), 0.1), 0.03, dark, soft=0.014, opacity=0.75)
    return tip


def paint_glasses(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw thin dark rims and a bridge, for those who wear them."""
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
