"""The moving parts of a face as numbers.

The parts follow the action units (AU) of the Facial Action Coding System.
Source: Ekman, Friesen and Hager 2002, Facial Action Coding System, the manual.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaceShape:
    """Where the moving parts of a face stand; heights in face units, upwards positive, the others as said.

    The default is a face at rest.
    """

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
