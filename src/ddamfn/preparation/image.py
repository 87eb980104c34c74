"""One image of a data set to one aligned crop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ddamfn.errors import DegenerateFace, UnreadableImage
from ddamfn.faces import FIRST_SIDE_PX, Alignment, Crop, Detection, DetectionMode, align, plain_resize
from ddamfn.faces.decode import decode_scaled

Landmarks = npt.NDArray[np.float32]

# A marked face is searched in its box and half of its size around it: annotators' boxes often cut off chin and
# forehead.
_BOX_SURROUNDINGS = 0.5


class Detector(Protocol):
    """What is needed of a face detector."""

    def detect(self, image: npt.NDArray[np.uint8], *, detection: DetectionMode) -> list[Detection]:
        """Return the faces of an RGB image."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a data set records of the face's place, in pixels of the image.

    `reused` is what an earlier preparation found: landmarks and score, False for no face; None to detect.
    """

    landmarks: tuple[tuple[float, float], ...] | None = None  # five (x, y), viewer's left eye first
    bbox: tuple[float, float, float, float] | None = None  # labeled face, (x1, y1, x2, y2)
    reused: tuple[tuple[tuple[float, float], ...], float | None] | bool | None = None

    def scaled(self, scale: float) -> "Hints":
        """Return the same places in the pixels of an image that was decoded smaller."""
        if scale == 1:
            return self
        reused = (_times(self.reused[0], scale), self.reused[1]) if isinstance(self.reused, tuple) else self.reused
        landmarks = None if self.landmarks is None else _times(self.landmarks, scale)
        bbox = self.bbox
        if bbox is not None:
            bbox = (bbox[0] * scale, bbox[1] * scale, bbox[2] * scale, bbox[3] * scale)
        return Hints(landmarks, bbox, reused)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one image."""

    found: bool  # aligned by landmarks; False is a plain resize, or an error
    score: float | None = None  # None for the set's own landmarks
    landmarks: Landmarks | None = None  # (5, 2) float32 pixels of the image
    matrix: npt.NDArray[np.float64] | None = None  # (2, 3), image to crop; None if unreadable
    error: str = ""  # why the image is unreadable, on one line
    sha256: str = ""  # of what was read; empty in a manifest's row, and if nothing was read

    def scaled(self, scale: float) -> "Outcome":
        """Return the same places in the pixels of the image itself, where it was decoded smaller."""
        if scale == 1 or self.matrix is None:
            return self
        landmarks = None if self.landmarks is None else self.landmarks * np.float32(scale)
        return replace(self, landmarks=landmarks, matrix=self.matrix / (scale, scale, 1.0))


def _times(points: Sequence[tuple[float, float]], scale: float) -> tuple[tuple[float, float], ...]:
    return tuple((x * scale, y * scale) for x, y in points)


def choose_face(faces: Sequence[Detection], center: tuple[float, float], half_diagonal: float) -> Detection:
    """Choose the face that an image's label belongs to: the largest product of score and nearness to the center.

    Images of data sets are cut around the labeled face, so a sharp passer-by at the edge must not win over it.
    """

    def merit(face: Detection) -> float:
        x1, y1, x2, y2 = (float(v) for v in face.bbox)
        distance = float(np.hypot((x1 + x2) / 2 - center[0], (y1 + y2) / 2 - center[1]))
        return face.score * max(0.0, 1.0 - distance / half_diagonal)

    return max(faces, key=merit)


def find_landmarks(
    image: npt.NDArray[np.uint8], hints: Hints, detector: Detector
) -> tuple[Landmarks, float | None] | None:
    """Return the labeled face's landmarks (5, 2) and score (None if they are the set's own), or None without a face."""
    if hints.landmarks is not None:
        return np.array(hints.landmarks, dtype=np.float32), None
    if isinstance(hints.reused, tuple):
        return np.array(hints.reused[0], dtype=np.float32), hints.reused[1]
    if hints.reused is False:
        return None
    height, width = image.shape[:2]
    left, top, right, bottom = _region(hints.bbox, width, height)
    # One look, as ever: images of data sets are cut around their face, and prepared sets must stay comparable.
    faces = detector.detect(np.ascontiguousarray(image[top:bottom, left:right]), detection=FIRST_SIDE_PX)
    if not faces:
        return None
    x1, y1, x2, y2 = hints.bbox or (0, 0, width, height)
    center = ((x1 + x2) / 2 - left, (y1 + y2) / 2 - top)
    face = choose_face(faces, center, float(np.hypot(right - left, bottom - top)) / 2)
    return face.landmarks + np.array([left, top], dtype=np.float32), float(face.score)


def prepare_image(
    content: bytes | npt.NDArray[np.uint8], hints: Hints, detector: Detector, alignment: Alignment
) -> tuple[Outcome, npt.NDArray[np.uint8]]:
    """Decode, detect and align one image to a crop (S, S, 3) uint8 RGB; without a face it is resized as a whole."""
    decoded = decode_scaled(content)
    outcome, crop = _cut_out(decoded.pixels, hints.scaled(decoded.scale), detector, alignment)
    return outcome.scaled(1 / decoded.scale), crop


def _cut_out(
    image: npt.NDArray[np.uint8], hints: Hints, detector: Detector, alignment: Alignment
) -> tuple[Outcome, npt.NDArray[np.uint8]]:
    found = find_landmarks(image, hints, detector)
    if found is not None:
        landmarks, score = found
        try:
            crop = align(image, landmarks, alignment)
            return Outcome(True, score, landmarks, crop.matrix), crop.pixels
        except DegenerateFace:
            pass  # Points on one line are no face to align by; the image still counts.
    crop = _whole(image, hints, alignment)
    return Outcome(False, None, None, crop.matrix), crop.pixels


def unreadable(error: BaseException) -> Outcome:
    """Build the outcome of an image that could not be read, with the reason on one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return Outcome(False, error=reason if isinstance(error, UnreadableImage) else f"{type(error).__name__}: {reason}")


def _whole(image: npt.NDArray[np.uint8], hints: Hints, alignment: Alignment) -> Crop:
    """Resize the whole image, or the marked box where the set marks one face among several."""
    if hints.bbox is None:
        return plain_resize(image, alignment)
    height, width = image.shape[:2]
    left, top, right, bottom = _region(hints.bbox, width, height, surroundings=0.0)
    crop = plain_resize(np.ascontiguousarray(image[top:bottom, left:right]), alignment)
    shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
    return Crop(crop.pixels, crop.matrix @ shift)


def _region(
    bbox: tuple[float, float, float, float] | None, width: int, height: int, surroundings: float = _BOX_SURROUNDINGS
) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the part to search: the grown box within the image, or all of it."""
    if bbox is None:
        return 0, 0, width, height
    x1, y1, x2, y2 = bbox
    dx, dy = (x2 - x1) * surroundings, (y2 - y1) * surroundings
    left, top = max(0, int(np.floor(x1 - dx))), max(0, int(np.floor(y1 - dy)))
    right, bottom = min(width, int(np.ceil(x2 + dx))), min(height, int(np.ceil(y2 + dy)))
    # A box outside the image is an annotation slip; the whole image is the better guess then.
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else (0, 0, width, height)
