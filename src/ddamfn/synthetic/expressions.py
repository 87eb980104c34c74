"""The shapes that an expression gives to a synthetic face."""

from dataclasses import dataclass, fields

import numpy as np

from ddamfn.labels import canonical


@dataclass(frozen=True, slots=True)
class FaceShape:
    """The moving parts of a face, at rest by default; lengths in face units, upwards positive, unless noted."""

    brow_inner: float = 0.0  # AU1
    brow_outer: float = 0.0  # AU2
    brow_pinch: float = 0.0  # AU4: how far the inner ends move to the middle
    brow_lift_right: float = 0.0  # the viewer's right brow alone
    lid_upper: float = 0.105  # AU5: height of the upper lid over the eye's axis
    lid_lower: float = 0.075  # AU7 lessens it: depth of the lower lid under the axis
    lid_slant: float = 0.0  # upper lid hanging at its outer end
    gaze_x: float = 0.0  # -1..1
    gaze_y: float = 0.0  # -1..1, downwards positive
    mouth_width: float = 0.36  # half width
    corner: float = 0.0  # AU12 raises, AU15 lowers
    corner_right: float = 0.0  # AU14: the viewer's right corner alone
    open_upper: float = 0.0  # inner edge of the upper lip over the mouth's axis
    open_lower: float = 0.0  # AU26, AU27: inner edge of the lower lip under it
    square: float = 2.2  # exponent of the opening: 2 is an ellipse, 6 a box
    sneer: float = 0.0  # AU10: upper lip raised beside the middle
    lip: float = 1.0  # fullness of the lips; AU23 and AU24 thin them
    teeth_upper: float = 0.0  # 0..1
    teeth_lower: float = 0.0  # 0..1
    tongue: float = 0.0  # 0..1
    pout: float = 0.0  # AU17: chin boss raised, lower lip pushed up
    wrinkle: float = 0.0  # AU9: nose wrinkled, 0..1
    fold: float = 0.12  # nasolabial furrow, 0..1
    fold_right: float = 0.0  # the viewer's right furrow alone
    frown: float = 0.0  # upright lines between the brows, 0..1
    forehead: float = 0.0  # lines across the forehead, 0..1
    cheek: float = 0.0  # AU6: cheeks raised, 0..1


# fmt: off
SHAPES: dict[str, tuple[FaceShape, ...]] = {
    "neutral": (
        FaceShape(corner=0.02),
        FaceShape(lip=1.1, corner=0.01),
    ),
    "happiness": (
        FaceShape(
            brow_inner=0.02, brow_outer=0.03,
            lid_upper=0.08, lid_lower=0.03,
            mouth_width=0.5, corner=0.19, open_upper=0.02, open_lower=0.19, teeth_upper=1.0, lip=0.85,
            fold=0.8, cheek=1.0,
        ),
        FaceShape(
            lid_upper=0.085, lid_lower=0.035,
            mouth_width=0.48, corner=0.17, open_upper=0.01, open_lower=0.09, teeth_upper=1.0, lip=0.85,
            fold=0.75, cheek=0.9,
        ),
        FaceShape(
            lid_upper=0.085, lid_lower=0.04,
            mouth_width=0.47, corner=0.17, lip=0.85,
            fold=0.7, cheek=0.9,
        ),
    ),
    "surprise": (
        FaceShape(
            brow_inner=0.17, brow_outer=0.17,
            lid_upper=0.185, lid_lower=0.1,
            mouth_width=0.24, open_upper=0.09, open_lower=0.33, square=2.0, lip=0.95,
            forehead=0.8, fold=0.0,
        ),
        FaceShape(
            brow_inner=0.15, brow_outer=0.15,
            lid_upper=0.18, lid_lower=0.1,
            mouth_width=0.2, open_upper=0.07, open_lower=0.2, square=2.0, lip=1.0,
            forehead=0.6, fold=0.0,
        ),
    ),
    "sadness": (
        FaceShape(
            brow_inner=0.16, brow_outer=-0.09, brow_pinch=0.05,
            lid_upper=0.075, lid_lower=0.055, lid_slant=0.05, gaze_y=0.45,
            mouth_width=0.35, corner=-0.17, pout=0.9, lip=1.1,
            frown=0.25, forehead=0.25, fold=0.4,
        ),
        FaceShape(
            brow_inner=0.15, brow_outer=-0.1, brow_pinch=0.06,
            lid_upper=0.065, lid_lower=0.06, lid_slant=0.055, gaze_y=0.6,
            mouth_width=0.33, corner=-0.14, pout=0.6, lip=1.0,
            frown=0.2, forehead=0.2, fold=0.3,
        ),
    ),
    "anger": (
        FaceShape(
            brow_inner=-0.16, brow_outer=0.05, brow_pinch=0.12,
            lid_upper=0.095, lid_lower=0.035, lid_slant=-0.05,
            mouth_width=0.34, corner=-0.05, lip=0.4, pout=0.4,
            frown=1.0, fold=0.3,
        ),
        FaceShape(
            brow_inner=-0.17, brow_outer=0.06, brow_pinch=0.12,
            lid_upper=0.1, lid_lower=0.035, lid_slant=-0.05,
            mouth_width=0.4, corner=-0.06, open_upper=0.09, open_lower=0.12, square=4.5, teeth_upper=1.0,
            teeth_lower=1.0, lip=0.6,
            frown=1.0, fold=0.6, wrinkle=0.15,
        ),
    ),
    "disgust": (
        FaceShape(
            brow_inner=-0.1, brow_outer=-0.04, brow_pinch=0.06,
            lid_upper=0.055, lid_lower=0.02,
            mouth_width=0.36, corner=-0.1, sneer=0.13, open_upper=0.035, open_lower=0.06, teeth_upper=0.8, lip=0.9,
            wrinkle=1.0, fold=1.0, frown=0.4, cheek=0.5,
        ),
        FaceShape(
            brow_inner=-0.1, brow_outer=-0.03, brow_pinch=0.06,
            lid_upper=0.05, lid_lower=0.015,
            mouth_width=0.36, corner=-0.12, sneer=0.14, open_upper=0.05, open_lower=0.17, square=2.6, tongue=1.0,
            lip=0.9,
            wrinkle=1.0, fold=1.0, frown=0.4, cheek=0.5,
        ),
    ),
    "fear": (
        FaceShape(
            brow_inner=0.19, brow_outer=0.03, brow_pinch=0.1,
            lid_upper=0.185, lid_lower=0.06,
            mouth_width=0.46, corner=-0.07, open_upper=0.04, open_lower=0.12, square=5.0, teeth_lower=0.9, lip=0.6,
            forehead=0.7, frown=0.5, fold=0.25,
        ),
        FaceShape(
            brow_inner=0.18, brow_outer=0.02, brow_pinch=0.1,
            lid_upper=0.18, lid_lower=0.06, gaze_x=0.5,
            mouth_width=0.47, corner=-0.08, open_upper=0.06, open_lower=0.17, square=4.5, teeth_upper=0.5,
            teeth_lower=0.9, lip=0.6,
            forehead=0.6, frown=0.5, fold=0.25,
        ),
    ),
    "contempt": (
        FaceShape(
            brow_lift_right=0.11,
            lid_upper=0.07, lid_lower=0.06, gaze_x=0.45, gaze_y=0.1,
            mouth_width=0.36, corner=-0.02, corner_right=0.19, lip=0.75,
            fold_right=0.9,
        ),
        FaceShape(
            brow_lift_right=0.04,
            lid_upper=0.065, lid_lower=0.05, gaze_x=-0.3, gaze_y=0.1,
            mouth_width=0.35, corner=0.0, corner_right=0.18, lip=0.7,
            fold_right=1.0,
        ),
    ),
}
# fmt: on
"""The variants of every canonical expression: brows, lids, mouth and furrows, each on a line."""

_SPREAD = 0.035
"""Standard deviation of each value's jitter, as a share of its range over all expressions."""


def sample_shape(label: str, generator: np.random.Generator, strength: float = 1.0) -> FaceShape:
    """Sample a random variant of an expression; strength 0 is a face at rest, 1 the usual expression."""
    variants = SHAPES[canonical(label)]
    variant = variants[int(generator.integers(len(variants)))]
    strength = strength * float(generator.uniform(0.8, 1.15))
    rest = FaceShape()
    moved: dict[str, float] = {}
    for field in fields(FaceShape):
        start, end = getattr(rest, field.name), getattr(variant, field.name)
        jitter = float(generator.normal()) * _SPREAD * _range(field.name)
        moved[field.name] = start + strength * (end - start) + jitter
    for name in ("lid_upper", "lid_lower", "square", "lip", "mouth_width"):
        moved[name] = max(moved[name], 0.01 if name == "lid_lower" else 0.04)
    for name in ("open_upper", "open_lower", "teeth_upper", "teeth_lower", "tongue", "wrinkle", "fold"):
        # A part that this expression leaves at rest stays there: a slightly open mouth would be another expression.
        moved[name] = max(moved[name], 0.0) if getattr(variant, name) > 0.0 else 0.0
    return FaceShape(**moved)


def _range(name: str) -> float:
    """Return the range of a value over all expressions."""
    values = [getattr(variant, name) for variants in SHAPES.values() for variant in variants]
    return float(max(values) - min(values))
