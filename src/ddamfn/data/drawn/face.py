"""One drawn face: who, how turned, which expression, in what light, through what camera."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddamfn.data.drawn.canvas import Canvas
from ddamfn.data.drawn.expressions import sample_shape
from ddamfn.data.drawn.features import EYE_X, paint_brow, paint_eye, paint_glasses, paint_lines, paint_nose
from ddamfn.data.drawn.head import background, paint_beard, paint_behind, paint_hair, paint_skin
from ddamfn.data.drawn.mouth import paint_mouth
from ddamfn.data.drawn.person import Person, Pose, placement, sample_person, sample_pose
from ddamfn.data.drawn.shape import FaceShape


def drawn_face(
    label: str,
    generator: np.random.Generator,
    side_px: int = 112,
    *,
    person: Person | None = None,
    head: float | None = None,
    strength: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw one face.

    Args:
        label: the expression, in any spelling that `ddamfn.labels.canonical` knows.
        generator: source of all chance.
        side_px: side of the square picture.
        person: who is drawn; somebody new when None. The same person with several labels makes a subject.
        head: height of the head, chin to crown, as a share of the side; 0.62 to 0.85 by chance when None. Below about
            0.6 neck and shoulders come into the picture.
        strength: 0 is a face at rest, 1 the expression as it is usually drawn.

    Returns:
        The picture, uint8 (side_px, side_px, 3) RGB, and its landmarks, float32 (5, 2) as (x, y) pixels: the viewer's
        left eye, right eye, nose tip, left and right corner of the mouth.

    Raises:
        UnknownLabel: if the label belongs to no expression.
    """
    shape = sample_shape(label, generator, strength)
    person = person or sample_person(generator)
    pose = sample_pose(generator)
    height = float(generator.uniform(0.62, 0.85)) if head is None else head
    # Drawn larger and shrunk, which smooths every edge; small pictures more so, for their strokes are the thinnest.
    factor = max(2, math.ceil(220 / side_px))
    matrix = placement(side_px * factor, height, float(generator.normal(0.0, 0.09)), generator.normal(0.0, 0.02, 2))
    canvas = Canvas(background(side_px * factor, generator), matrix)
    points = _paint(canvas, person, pose, shape, light=float(generator.uniform(-1, 1)))
    picture = canvas.picture.resize((side_px, side_px), Image.Resampling.BOX)
    # A pixel's middle lies at .5 on the canvas and at whole numbers in a landmark.
    landmarks = (canvas.pixels(points) + 0.5) / factor - 0.5
    pixels = _photograph(picture, generator)
    if generator.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        landmarks = landmarks[[1, 0, 2, 4, 3]] * np.array([-1.0, 1.0]) + np.array([side_px - 1.0, 0.0])
    return pixels, landmarks.astype(np.float32)


def _paint(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, light: float) -> NDArray[np.float64]:
    """Draw a head, back to front, and return its (5, 2) landmarks in face units."""
    paint_behind(canvas, person)
    head = paint_skin(canvas, person, pose, shape, light)
    paint_beard(canvas, person, pose, shape, head)
    paint_lines(canvas, person, pose, shape, head)
    tip = paint_nose(canvas, person, pose, shape, light)
    left, right = paint_mouth(canvas, person, pose, shape)
    for side in (-1.0, 1.0):
        paint_eye(canvas, person, pose, shape, side)
        paint_brow(canvas, person, pose, shape, side)
    paint_glasses(canvas, person, pose)
    paint_hair(canvas, person, pose)
    gap = EYE_X * person.eye_gap
    eyes = pose.turn(np.array([[-gap, 0.0], [gap, 0.0]]))
    return np.vstack([eyes, tip, left[None], right[None]])


def _photograph(picture: Image.Image, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Treat a clean drawing as a camera would: exposure, colour cast, light falling from one side, blur and noise."""
    side_px = picture.width
    blur_px = float(generator.uniform(0.0, 0.008)) * side_px
    if blur_px > 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(blur_px))
    pixels = np.asarray(picture, dtype=np.float32)
    gain = generator.uniform(0.78, 1.06) * (1.0 + generator.normal(0.0, 0.02, 3))
    ramp = np.linspace(-0.5, 0.5, side_px)
    across, down = generator.normal(0.0, 0.15, 2)
    light = 1.0 + across * ramp[None, :, None] + down * ramp[:, None, None]
    grain = generator.normal(0.0, generator.uniform(0.5, 6.0), (side_px, side_px, 1))
    grain = grain + generator.normal(0.0, 1.5, pixels.shape)
    developed: NDArray[np.uint8] = np.clip(np.round(pixels * gain * light + grain), 0, 255).astype(np.uint8)
    return developed
