"""Results of reading an image: frozen values that turn into dictionaries, table rows and annotated images.

Coordinates are pixels of the upright image, x to the right and y down, 0 at the outer edge of the first pixel.
"""

import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing import FaceCard, Mark, annotate, with_cards
from ddamfn.errors import UsageError
from ddamfn.files import atomic_writer

# Written numbers are rounded: a hundredth of a pixel and a millionth of a probability are far below what the networks
# can tell, and short numbers stay the same when a processor adds in another order.
_PIXEL_DIGITS = 2
_SCORE_DIGITS = 4
_ROLL_DIGITS = 1
_PROBABILITY_DIGITS = 6
# A matrix's entries are multiplied by coordinates of thousands of pixels.
_MATRIX_DIGITS = 8

# By Pillow's name of the format: colors at full resolution, and no loss that an eye sees.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 92, "subsampling": 0}, "WEBP": {"quality": 92}}

TEXT_COLUMNS = ("source", "expression", "error")
"""The columns of a table of results that hold text; all others hold numbers."""

UNCERTAIN = "uncertain"
"""The answer in place of an expression where `min_precision` is set and the confidence is too low."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BBox:
    """A face's rectangle: left, top, right and bottom edge in pixels, x1 <= x2 and y1 <= y2.

    It unpacks: `x1, y1, x2, y2 = face.bbox`.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.y2 - self.y1

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in pixels, unrounded."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """Left and top edge, width and height in pixels, unrounded."""
        return self.x1, self.y1, self.width, self.height

    def __iter__(self) -> Iterator[float]:
        """Yield x1, y1, x2 and y2 in pixels, unrounded."""
        return iter(self.xyxy)

    def to_numpy(self) -> NDArray[np.float64]:
        """Return (x1, y1, x2, y2) as float64 (4,) in pixels, unrounded."""
        return np.array(self.xyxy, dtype=np.float64)

    def to_list(self) -> list[float]:
        """Return [x1, y1, x2, y2] in pixels, rounded to hundredths."""
        return [round(value, _PIXEL_DIGITS) for value in self]


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Five points of a face as (x, y) pixels; left and right are the viewer's, not the person's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point

    @classmethod
    def from_points(cls, points: NDArray[Any]) -> "Landmarks":
        """Build from an array (5, 2) in the order of the fields.

        Raises:
            ValueError: if the array has another shape.
        """
        if points.shape != (5, 2):
            raise ValueError(f"landmarks are five (x, y) points, not an array of shape {points.shape}")
        return cls(*((float(x), float(y)) for x, y in points))

    @property
    def roll_deg(self) -> float:
        """How far the face is turned clockwise in the image, -180 to 180 degrees; 0 is upright."""
        return float(roll_deg(self.to_numpy()))

    def to_numpy(self) -> NDArray[np.float64]:
        """Return the points as float64 (5, 2) in pixels, in the order of the fields, unrounded."""
        return np.array(astuple(self), dtype=np.float64)

    def to_list(self) -> list[list[float]]:
        """Return [[x, y] x 5] in pixels, rounded to hundredths."""
        return [[round(value, _PIXEL_DIGITS) for value in point] for point in self.to_numpy().tolist()]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classifier's prediction for one face.

    Attributes:
        expression: the likeliest of the weights' expressions; `UNCERTAIN` where `min_precision` is set and the
            confidence is too low.
        confidence: the likeliest expression's probability, 0 to 1, after the calibration on the weights' card.
        probabilities: every expression's probability in the weights' own order; they sum to 1.
    """

    expression: str
    confidence: float
    probabilities: Mapping[str, float]

    @classmethod
    def of(cls, probabilities: Mapping[str, float], threshold: float = 0.0) -> "Prediction":
        """Answer with the likeliest expression, or with `UNCERTAIN`.

        Args:
            probabilities: every expression's, 0 to 1, in the weights' order.
            threshold: the confidence below which the answer is `UNCERTAIN`.
        """
        best = max(probabilities, key=lambda name: probabilities[name])
        confidence = probabilities[best]
        return cls(best if confidence >= threshold else UNCERTAIN, confidence, probabilities)

    @property
    def likeliest(self) -> str:
        """The expression with the highest probability, also where the answer is `UNCERTAIN`."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


# Compared by identity: arrays have no single truth value to compare by.
@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in an image.

    Attributes:
        bbox: where it is.
        score: the detector's confidence that it is a face, 0 to 1; NaN where the caller gave the face and no detector
            scored it (None in `to_dict` and `to_rows`).
        landmarks: eyes, nose and corners of the mouth.
        prediction: the classifier's.
        matrix: float64 (2, 3), maps (x, y, 1) in the image to the aligned crop that the classifier saw.
        attention: float32 (A, 7, 7), one map per attention head on the aligned crop, each value 0 to 1 (the mean over
            the head's channels); None if the network has no heads.
        aligned: uint8 (S, S, 3) RGB, the aligned crop itself, S the weights' `input_side_px`; None unless images are
            kept.
    """

    bbox: BBox
    score: float
    landmarks: Landmarks
    prediction: Prediction
    matrix: NDArray[np.float64] = field(repr=False)
    attention: NDArray[np.float32] | None = field(default=None, repr=False)
    aligned: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def expression(self) -> str:
        """The likeliest expression, or `UNCERTAIN`."""
        return self.prediction.expression

    @property
    def confidence(self) -> float:
        """The likeliest expression's probability, 0 to 1."""
        return self.prediction.confidence

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Every expression's probability, in the weights' order."""
        return self.prediction.probabilities

    @property
    def roll_deg(self) -> float:
        """How far the face is turned clockwise in the image, -180 to 180 degrees; 0 is upright."""
        return self.landmarks.roll_deg

    def to_dict(self, *, attention: bool = False) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON.

        Args:
            attention: add the maps as "attention", a list (A, 7, 7), or None if the network has no heads; and "matrix",
                a list (2, 3), by whose inverse a map is carried back from the aligned crop to the image.
        """
        plain: dict[str, Any] = {
            "bbox": self.bbox.to_list(),
            "score": None if math.isnan(self.score) else round(self.score, _SCORE_DIGITS),
            "landmarks": self.landmarks.to_list(),
            "roll_deg": round(self.roll_deg, _ROLL_DIGITS),
            "expression": self.expression,
            "confidence": round(self.confidence, _PROBABILITY_DIGITS),
            "probabilities": {name: round(value, _PROBABILITY_DIGITS) for name, value in self.probabilities.items()},
        }
        if attention:
            plain["attention"] = (
                None if self.attention is None else np.round(self.attention.astype(np.float64), 4).tolist()
            )
            plain["matrix"] = np.round(self.matrix, _MATRIX_DIGITS).tolist()
        return plain


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """What was read from one image: a sequence of its faces, with what belongs to the whole image.

    It iterates, indexes and has a length. As any empty sequence, a result without a face is false, whether the image
    shows none or could not be read: `error` tells these apart.

    Attributes:
        source: the image's path, or `<bytes>`, `<file>`, `<image>`, `<array>`.
        width: of the upright image in pixels; None if it could not be read.
        height: of the upright image in pixels; None if it could not be read.
        faces: the faces, surest detection first; empty if there is none.
        error: why the image could not be read, one line; None if it was read.
        classes: the weights' expressions, in their order.
        image: uint8 (H, W, 3) RGB, the upright image, of one above `faces.MAX_PIXELS` at a half, a quarter or an eighth
            of its size; None unless images are kept.
    """

    source: str
    width: int | None
    height: int | None
    faces: list[Face] = field(default_factory=list)
    error: str | None = None
    classes: tuple[str, ...] = ()
    image: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Face]:
        """Yield the faces, surest detection first."""
        return iter(self.faces)

    def __len__(self) -> int:
        """Count the faces."""
        return len(self.faces)

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice) -> list[Face]: ...
    def __getitem__(self, index: int | slice) -> Face | list[Face]:
        """Return the face at an index, or a list of those in a slice."""
        return self.faces[index]

    def to_dict(self, *, attention: bool = False) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON.

        The key "error" exists only if the image could not be read.

        Args:
            attention: add each face's attention maps, and the matrix that places them.
        """
        plain: dict[str, Any] = {
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict(attention=attention) for face in self.faces],
        }
        if self.error is not None:
            plain["error"] = self.error
        return plain

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per face, with the columns of `row_columns(self.classes)`.

        An image without a face, or one that could not be read, is one row whose face columns are None: no image is
        lost.
        """
        if not self.faces:
            empty: dict[str, Any] = dict.fromkeys(row_columns(self.classes))
            return [empty | {"source": self.source, "error": self.error}]
        return [self._row(index, face) for index, face in enumerate(self.faces)]

    def plot(self, *, attention: bool = False, image: NDArray[np.uint8] | None = None) -> Image.Image:
        """Draw the faces' boxes, expressions and confidences into a copy of the image.

        Args:
            attention: place a card for each face beside the image: the aligned face, each head's map on it, and the
                probabilities. Needs the kept crops.
            image: uint8 (H, W, 3) RGB, the upright image, if this result does not keep it.

        Returns:
            An RGB image; a small one is enlarged so that the labels can be read.

        Raises:
            ValueError: if neither this result nor the caller has the image, or the crops were not kept.
        """
        pixels = self.image if image is None else image
        if pixels is None:
            raise ValueError(
                f"the image of {self.source} was not kept: pass image=..., or read with predict() or "
                "predict_many(..., keep_images=True)"
            )
        # An image that was too large was decoded smaller; its faces lie in the pixels of the image itself.
        shrink = min(1.0, pixels.shape[1] / self.width) if self.width else 1.0
        marks = [_shrunk(mark(face), shrink) for face in self.faces]
        drawn = annotate(pixels, marks)
        return with_cards(drawn, [_card(face) for face in self.faces]) if attention else drawn

    def save(self, path: str | os.PathLike[str], *, attention: bool = False) -> None:
        """Write the annotated image (see `plot`) into a file, at once complete.

        Args:
            path: the file; its suffix names the format, such as `.png`, `.jpg` or `.webp`. Its folder is made.
            attention: as for `plot`.

        Raises:
            ValueError: if the image or, with `attention`, the crops were not kept.
            UsageError: if Pillow writes no format of that suffix.
            OSError: if the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        kind = Image.registered_extensions().get(suffix)
        if kind not in Image.SAVE:
            raise UsageError(f"no format for images ends in {suffix!r}: use .png, .jpg, .webp or another of Pillow's")
        drawn = self.plot(attention=attention)
        with atomic_writer(path, durable=False) as stream:
            drawn.save(stream, kind, **_SAVE_OPTIONS.get(kind, {}))

    def show(self, *, attention: bool = False) -> None:
        """Open the annotated image (see `plot`) in the system's viewer, as `PIL.Image.Image.show` does.

        Args:
            attention: as for `plot`.

        Raises:
            ValueError: if the image or, with `attention`, the crops were not kept.
        """
        self.plot(attention=attention).show()

    def _repr_png_(self) -> bytes | None:
        """Return the annotated image for notebooks; None, for plain text, if the image was not kept."""
        if self.image is None:
            return None
        stream = io.BytesIO()
        self.plot().save(stream, "PNG")
        return stream.getvalue()

    def _row(self, index: int, face: Face) -> dict[str, Any]:
        plain = face.to_dict()
        numbers = [
            *plain["bbox"],
            plain["score"],
            *(value for point in plain["landmarks"] for value in point),
            plain["roll_deg"],
        ]
        values = [self.source, index, *numbers, plain["expression"], plain["confidence"]]
        values += [plain["probabilities"].get(name) for name in self.classes]
        return dict(zip(row_columns(self.classes), [*values, self.error], strict=True))


def roll_deg(landmarks: NDArray[Any]) -> NDArray[np.float64]:
    """Measure how far faces are turned in their image, by the lines through eyes and mouth and the axis between them.

    Args:
        landmarks: (..., 5, 2) pixels, in the order of `Landmarks`.

    Returns:
        (...) float64 degrees clockwise, -180 to 180; 0 is upright.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = points[..., 1, :] - points[..., 0, :], points[..., 4, :] - points[..., 3, :]
    down = (points[..., 3, :] + points[..., 4, :] - points[..., 0, :] - points[..., 1, :]) / 2
    # The axis counts like the two lines across it: of a face in profile these are short.
    across = eyes + mouth + np.stack([down[..., 1], -down[..., 0]], axis=-1)
    return np.asarray(np.degrees(np.arctan2(across[..., 1], across[..., 0])))


def row_columns(classes: tuple[str, ...]) -> list[str]:
    """Column names of `ImageResult.to_rows`, in order.

    Args:
        classes: the weights' expressions; each becomes `p_<name>`.
    """
    points = [f"{name}_{axis}" for name in Landmarks.__slots__ for axis in "xy"]
    return [
        "source", "face", "x1", "y1", "x2", "y2", "score", *points, "roll_deg",
        "expression", "confidence", *(f"p_{name}" for name in classes), "error",
    ]  # fmt: skip


def mark(face: Face, tag: str = "") -> Mark:
    """Return what is drawn of a face into its image.

    Args:
        face: the face.
        tag: written before the expression, such as the number of its track.
    """
    return Mark(face.bbox.xyxy, face.expression, _shown_confidence(face), tag)


def _shrunk(entry: Mark, factor: float) -> Mark:
    x1, y1, x2, y2 = entry.box
    return replace(entry, box=(x1 * factor, y1 * factor, x2 * factor, y2 * factor))


def _shown_confidence(face: Face) -> float | None:
    # "uncertain 43 %" would read as the confidence of not knowing.
    return None if face.expression == UNCERTAIN else face.confidence


def _card(face: Face) -> FaceCard:
    if face.aligned is None:
        raise ValueError("the aligned faces were not kept: read with predict() or predict_many(..., keep_images=True)")
    return FaceCard(face.aligned, face.attention, face.expression, _shown_confidence(face), face.probabilities)
