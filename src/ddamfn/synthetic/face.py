"""A synthetic face: background, head, hair and features put together."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddamfn.synthetic.canvas import Canvas, Points, ellipse, smooth
from ddamfn.synthetic.expressions import FaceShape, sample_shape
from ddamfn.synthetic.features import EYE_X, paint_brow, paint_eye, paint_glasses, paint_lines, paint_mouth, paint_nose
from ddamfn.synthetic.person import Person, Pose, placement, sample_person, sample_pose


def background(side_px: int, generator: np.random.Generator) -> Image.Image:
    """Return a square RGB background: a color gradient with out-of-focus patches."""
    # Rooms and streets are grayer than random colors, so the hue is only a part of a common gray.
    gray = generator.uniform(35, 215)
    corners = (
        gray
        + 0.35 * generator.uniform(-110, 110, 3)
        + generator.normal(0.0, 16.0, (2, 2, 1))
        + generator.normal(0.0, 6.0, (2, 2, 3))
    )
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    image = small.resize((side_px, side_px), Image.Resampling.BICUBIC)
    canvas = Canvas(image, np.array([[side_px, 0.0, 0.0], [0.0, side_px, 0.0]]))
    for _ in range(int(generator.integers(0, 6))):
        x, y, radius, aspect = generator.uniform([0, 0, 0.06, 0.4], [1, 1, 0.3, 2.0])
        color = gray + generator.uniform(-60, 60) + generator.uniform(-30, 30, 3)
        canvas.fill(ellipse(x, y, radius, radius * aspect), color, soft=0.03, opacity=0.7)
    return image.filter(ImageFilter.GaussianBlur(side_px * 0.01))


def outline(person: Person, jaw_drop: float) -> Points:
    """Return the head's contour (N, 2) in face units; the open mouth lowers the chin by `jaw_drop`."""
    chin = 1.62 * person.length + jaw_drop
    jaw = person.jaw
    right = np.array([
        [0.0, -1.66], [0.52, -1.55], [0.9, -1.05], [1.0, -0.4], [0.985, 0.15], [0.92 * (0.6 + 0.4 * jaw), 0.62],
        [0.76 * jaw, 1.06 + 0.3 * jaw_drop], [0.46 * jaw, chin - 0.21], [0.2 * jaw, chin - 0.03],
    ])  # fmt: skip
    left = right[1:][::-1] * np.array([-1.0, 1.0])
    return smooth(np.vstack([right, [[0.0, chin]], left]), closed=True)


def paint_behind(canvas: Canvas, person: Person) -> None:
    """Draw the parts behind the head: back hair, neck, shoulders, ears."""
    if person.style in ("long", "curly"):
        width, low = (1.28, 1.9) if person.style == "long" else (1.34, 0.75)
        back = np.array(
            [[0.0, -1.86], [0.8, -1.66], [width, -0.7], [width, 0.25 * low], [width * 0.8, low], [0.0, low + 0.1]]
        )
        mirrored = back[1:-1][::-1] * np.array([-1.0, 1.0])
        canvas.fill(smooth(np.vstack([back, mirrored]), closed=True), person.hair * 0.8, soft=0.02)
    neck = np.array([[-0.56, 0.7], [-0.54, 1.75], [-0.78, 2.25], [0.78, 2.25], [0.54, 1.75], [0.56, 0.7]])
    shoulders = np.array([
        [-0.62, 2.0], [-1.3, 2.22], [-2.1, 2.5], [-2.5, 4.5], [2.5, 4.5], [2.1, 2.5], [1.3, 2.22], [0.62, 2.0],
        [0.0, 2.42],
    ])  # fmt: skip
    canvas.fill(neck, person.skin * 0.84, soft=0.01)
    canvas.fill(smooth(shoulders, closed=True), person.cloth, soft=0.01)
    canvas.fill(ellipse(0.0, 1.62, 0.62, 0.26), person.skin * 0.5, soft=0.12, opacity=0.55)
    if person.style != "long":
        for side in (-1.0, 1.0):
            canvas.fill(ellipse(side * 1.0, 0.2, 0.13, 0.32), person.skin * 0.88, soft=0.01)
            canvas.fill(ellipse(side * 1.03, 0.2, 0.06, 0.2), person.skin * 0.66, soft=0.03, opacity=0.7)


def paint_skin(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, light: float) -> Image.Image:
    """Draw the head's skin, lit from the side `light` (-1..1), and return the head's mask for clipping."""
    contour = outline(person, 0.55 * shape.open_lower)
    head = canvas.mask(contour)
    dark, bright = person.skin * 0.62, np.minimum(person.skin * 1.1 + 10, 255)
    canvas.fill(contour, person.skin, soft=0.008)
    canvas.stroke(contour, 0.22, dark, soft=0.1, opacity=0.5, clip=head)
    shade = ellipse(-np.sign(light) * 1.05, 0.3, 0.62, 1.6)
    canvas.fill(shade, dark, soft=0.28, opacity=0.7 * abs(light), clip=head)
    canvas.fill(pose.turn(ellipse(0.0, -0.75, 0.5, 0.3)), bright, soft=0.2, opacity=0.4, clip=head)
    chin = 1.38 * person.length + 0.5 * shape.open_lower
    canvas.fill(pose.turn(ellipse(0.0, chin, 0.17, 0.09)), bright, soft=0.08, opacity=0.35, clip=head)
    if shape.pout > 0:
        boss = ellipse(0.0, 1.27 + 0.4 * shape.open_lower, 0.22, 0.035)
        canvas.fill(pose.turn(boss), dark, soft=0.03, opacity=0.55 * min(shape.pout, 1.0), clip=head)
    for side in (-1.0, 1.0):
        socket = pose.turn(ellipse(side * 0.45 * person.eye_gap, -0.07, 0.3, 0.21))
        canvas.fill(socket, dark, soft=0.1, opacity=0.42, clip=head)
        cheek = pose.turn(ellipse(side * 0.56, 0.5 - 0.08 * shape.cheek, 0.22, 0.15))
        blush = np.minimum(bright + np.array([12.0, -8.0, -8.0]), 255)
        canvas.fill(cheek, blush, soft=0.1, opacity=0.25 + 0.3 * shape.cheek, clip=head)
    return head


def paint_beard(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, head: Image.Image) -> None:
    """Draw stubble or a beard and mustache, under the mouth."""
    if person.beard <= 0:
        return
    drop = 0.55 * shape.open_lower
    edge = np.array([[0.97, 0.25], [0.74, 0.72], [0.44, 0.8], [0.0, 0.76]])
    upper = np.vstack([edge, edge[:-1][::-1] * np.array([-1.0, 1.0])])
    lower = np.array([[-0.97, 0.8], [-0.6, 1.8 + drop], [0.6, 1.8 + drop], [0.97, 0.8]])
    beard = pose.turn(smooth(np.vstack([upper, lower]), closed=True))
    canvas.fill(beard, person.hair, soft=0.05, opacity=person.beard, clip=head)


def paint_hair(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw the hair around the forehead."""
    if person.style == "bald":
        return
    line = -1.02 + person.hairline
    temple = -0.42 if person.style in ("short", "parted") else -0.1
    crown = np.array([
        [-1.06, temple], [-1.1, -0.8], [-0.86, -1.5], [-0.4, -1.8], [0.0, -1.86], [0.4, -1.8], [0.86, -1.5],
        [1.1, -0.8], [1.06, temple],
    ])  # fmt: skip
    # fmt: off
    hairlines = {
        "short": [[0.86, -0.72], [0.6, line], [0.0, line - 0.06], [-0.6, line], [-0.86, -0.72]],
        "parted": [[0.88, -0.5], [0.78, -0.86], [0.42, line - 0.12], [-0.3, line - 0.28], [-0.62, line],
                   [-0.88, -0.55]],
        "fringe": [[0.9, -0.3], [0.82, -0.66], [0.4, -0.64], [0.0, -0.66], [-0.4, -0.62], [-0.82, -0.66], [-0.9, -0.3]],
        "long": [[0.94, 0.3], [0.86, -0.6], [0.46, line], [0.02, line - 0.26], [-0.46, line], [-0.86, -0.6],
                 [-0.94, 0.3]],
        "curly": [[0.92, -0.3], [0.78, -0.8], [0.36, line], [0.0, line - 0.04], [-0.36, line], [-0.78, -0.8],
                  [-0.92, -0.3]],
    }
    # fmt: on
    front = pose.turn(np.array(hairlines[person.style]))
    front[:, 1] -= 0.02
    if person.style == "curly":
        for angle in np.linspace(np.pi * 0.98, np.pi * 2.02, 13):
            canvas.fill(ellipse(1.08 * np.cos(angle), -0.72 + 0.98 * np.sin(angle), 0.3, 0.28), person.hair, soft=0.02)
    cap = np.vstack([smooth(crown), smooth(front)])
    canvas.fill(cap, person.hair, soft=0.015)
    shine = np.minimum(person.hair * 1.25 + 18, 255)
    canvas.stroke(smooth(np.array([[-0.62, -1.36], [0.0, -1.56], [0.62, -1.36]])), 0.14, shine, soft=0.08, opacity=0.5)


def synthetic_face(
    label: str,
    generator: np.random.Generator,
    side_px: int = 112,
    *,
    person: Person | None = None,
    head: float | None = None,
    strength: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw one face: uint8 (side_px, side_px, 3) RGB, and landmarks float32 (5, 2) pixels, viewer's left eye first.

    Person and head (its height as a share of the side) are random when None; below about 0.6 neck and shoulders show.
    Strength 0 is a face at rest, 1 the usual expression.
    """
    shape = sample_shape(label, generator, strength)
    person = person or sample_person(generator)
    pose = sample_pose(generator)
    height = float(generator.uniform(0.62, 0.85)) if head is None else head
    # Drawn larger and shrunk, which smooths every edge; small images more so, since their strokes are the thinnest.
    factor = max(2, math.ceil(220 / side_px))
    matrix = placement(side_px * factor, height, float(generator.normal(0.0, 0.09)), generator.normal(0.0, 0.02, 2))
    canvas = Canvas(background(side_px * factor, generator), matrix)
    points = _paint(canvas, person, pose, shape, light=float(generator.uniform(-1, 1)))
    image = canvas.image.resize((side_px, side_px), Image.Resampling.BOX)
    # The center of a pixel is at .5 on the canvas and at an integer in a landmark.
    landmarks = (canvas.pixels(points) + 0.5) / factor - 0.5
    pixels = _photograph(image, generator)
    if generator.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        landmarks = landmarks[[1, 0, 2, 4, 3]] * np.array([-1.0, 1.0]) + np.array([side_px - 1.0, 0.0])
    return pixels, landmarks.astype(np.float32)


def _paint(canvas: Canvas, person: Person, pose: Pose, shape: FaceShape, light: float) -> NDArray[np.float64]:
    """Draw a head from back to front and return its (5, 2) landmarks in face units."""
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


def _photograph(image: Image.Image, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Add the effects of a camera to a clean drawing: exposure, color cast, uneven light, blur and noise."""
    side_px = image.width
    blur_px = float(generator.uniform(0.0, 0.008)) * side_px
    if blur_px > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur_px))
    pixels = np.asarray(image, dtype=np.float32)
    gain = generator.uniform(0.78, 1.06) * (1.0 + generator.normal(0.0, 0.02, 3))
    ramp = np.linspace(-0.5, 0.5, side_px)
    across, down = generator.normal(0.0, 0.15, 2)
    light = 1.0 + across * ramp[None, :, None] + down * ramp[:, None, None]
    grain = generator.normal(0.0, generator.uniform(0.5, 6.0), (side_px, side_px, 1))
    grain = grain + generator.normal(0.0, 1.5, pixels.shape)
    developed: NDArray[np.uint8] = np.clip(np.round(pixels * gain * light + grain), 0, 255).astype(np.uint8)
    return developed
