"""The first half of reading an image: decode it, find its faces and align them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DegenerateFace, UsageError
from ddamfn.faces import Alignment, ChannelOrder, Detection, DetectionMode, ImageInput, RetinaFace, align
from ddamfn.faces.align import crop_bounds, is_enlarging
from ddamfn.faces.decode import Decoded, content_of, decode_scaled, image_name
from ddamfn.faces.given import check_boxes, check_landmarks, landmarks_in_box
from ddamfn.faces.search import shrinking
from ddamfn.results import ImageResult

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """An image whose faces are cut out but not classified yet.

    Attributes:
        result: its result so far, without faces.
        detections: its faces, surest first.
        crops: uint8 (S, S, 3) RGB, the aligned faces, in that order.
        matrices: float64 (2, 3), each maps (x, y, 1) in the image to its crop.
        threshold: the confidence below which a face's expression is "uncertain", 0 to 1.
        factors: float64 (K,), what its probabilities are multiplied by for the expected mix of expressions; None for
            that of the training images.
    """

    result: ImageResult
    detections: Sequence[Detection] = ()
    crops: Sequence[NDArray[np.uint8]] = ()
    matrices: Sequence[NDArray[np.float64]] = ()
    threshold: float = 0.0
    factors: NDArray[np.float64] | None = None

    @property
    def kept_bytes(self) -> int:
        """Size of the image, if it is kept."""
        return 0 if self.result.image is None else self.result.image.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """An image as the caller gave it, with what concerns its decoding; see `Recognizer.find_faces`."""

    source: ImageInput
    channel_order: ChannelOrder
    keep: bool
    max_pixels: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _AlignedFace:
    """One face; all coordinates are pixels of the image itself."""

    detection: Detection
    pixels: NDArray[np.uint8]
    matrix: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FaceFinder:
    """Finds and aligns the faces of images, in any thread.

    Attributes:
        detector: finds them.
        alignment: how they are cut out.
        labels: the classes that the results are to have.
        shrink_on_load: whether a JPEG is decoded no larger than the detector looks at it. Faces that have more detail
            are then cut out of the whole image.
    """

    detector: RetinaFace
    alignment: Alignment
    labels: tuple[str, ...]
    shrink_on_load: bool

    def find(
        self,
        image: Given,
        min_detection_score: float,
        max_faces: int | None,
        detection: DetectionMode,
        near: Sequence[Detection],
    ) -> FoundFaces:
        """Find and align the faces of one image; arguments and errors as for `Recognizer.find_faces`."""
        name, source = image_name(image.source), content_of(image.source)
        read = partial(decode_scaled, source, max_pixels=image.max_pixels, channel_order=image.channel_order)
        decoded = whole = read(shrinking=partial(shrinking, detection=detection) if self.shrink_on_load else None)
        detections = None
        if near:
            detections = self.detector.detect_near(decoded.pixels, near, min_detection_score=min_detection_score)
        if detections is None:
            detections = self.detector.detect(
                decoded.pixels, min_detection_score=min_detection_score, max_faces=max_faces, detection=detection
            )
        faces = [face for entry in detections if (face := self._cut_out(decoded, entry, name)) is not None]
        # A kept image is the whole one, and its faces are the same as without it.
        if decoded.by_choice and (image.keep or any(is_enlarging(face.matrix, decoded.scale) for face in faces)):
            whole = read()
            faces = [
                self._align(whole, face.detection) if is_enlarging(face.matrix, decoded.scale) else face
                for face in faces
            ]
        return self._found(name, whole, faces, keep_image=image.keep)

    def given(self, image: Given, boxes: ArrayLike | None, landmarks: ArrayLike | None) -> FoundFaces:
        """Align the faces of the caller's own detector, row by row; see `Recognizer.predict`."""
        decoded = decode_scaled(image.source, max_pixels=image.max_pixels, channel_order=image.channel_order)
        rectangles = None if boxes is None else check_boxes(boxes, (decoded.width, decoded.height))
        if landmarks is not None:
            points = [(entry, float("nan")) for entry in check_landmarks(landmarks)]
        elif rectangles is not None:
            # The detector's regions are of whole pixels, so the boxes come to it in those that were decoded.
            looked = [landmarks_in_box(self.detector, decoded.pixels, box * decoded.scale) for box in rectangles]
            points = [(entry / decoded.scale, score) for entry, score in looked]
        if rectangles is not None and len(rectangles) != len(points):
            raise UsageError(f"each face has one box: {len(rectangles)} boxes came with {len(points)} faces' landmarks")
        faces = []
        for row, (entry, score) in enumerate(points):
            try:
                face = self._align(decoded, Detection(np.zeros(4), entry, score))
            except DegenerateFace as error:
                raise DegenerateFace(f"landmarks[{row}]: {error}") from error
            box = crop_bounds(face.matrix, self.alignment.side_px) if rectangles is None else rectangles[row]
            faces.append(replace(face, detection=Detection(box, entry, score)))
        return self._found(image_name(image.source), decoded, faces, keep_image=image.keep)

    def _cut_out(self, decoded: Decoded, detection: Detection, name: str) -> _AlignedFace | None:
        """Align what the detector has found in the decoded pixels."""
        # The last pixel of a smaller image may be half empty, and a box lies inside the image.
        bbox = np.minimum(detection.bbox / decoded.scale, (decoded.width, decoded.height) * 2)
        try:
            return self._align(decoded, Detection(bbox, detection.landmarks / decoded.scale, detection.score))
        except DegenerateFace as error:
            # Not a face that anything could be read from; seen in noise, never in photographs.
            _LOGGER.warning("%s: a detection at score %.2f is left out: %s", name, detection.score, error)
            return None

    def _align(self, decoded: Decoded, detection: Detection) -> _AlignedFace:
        """Cut a face out of the decoded pixels; `detection` is in pixels of the image itself."""
        crop = align(decoded.pixels, detection.landmarks * decoded.scale, self.alignment)
        return _AlignedFace(detection, crop.pixels, crop.matrix * (decoded.scale, decoded.scale, 1.0))

    def _found(self, name: str, decoded: Decoded, faces: Sequence[_AlignedFace], *, keep_image: bool) -> FoundFaces:
        kept = decoded.pixels if keep_image else None
        return FoundFaces(
            ImageResult(name, decoded.width, decoded.height, classes=self.labels, image=kept),
            [face.detection for face in faces],
            [face.pixels for face in faces],
            [face.matrix for face in faces],
        )
