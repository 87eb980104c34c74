"""Image to faces to expressions: the one place where the face detector and the weights meet."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.errors import DdamfnError, DegenerateFace, UsageError
from ddamfn.faces import MAX_PIXELS, Detection, RetinaFace, align, decode
from ddamfn.results import BBox, Face, ImageResult, Landmarks, Prediction
from ddamfn.weights import Card, threshold_for

__all__ = ["Classifier", "FoundFaces", "ImageInput", "Recognizer", "alignment_of"]

_LOGGER = logging.getLogger(__name__)

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""What can be read: a path, a file's bytes, a Pillow image, or uint8 (H, W, 3) RGB."""

# Images that wait for their batch are dropped to this many bytes of kept pixels, whatever the batch: with
# 50-megapixel photographs sixteen of them would need 2.4 GB.
_MOST_WAITING_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """An image whose faces are cut out but not classified yet.

    Attributes:
        result: its result so far, without faces.
        detections: its faces, surest first.
        crops: uint8 (S, S, 3) RGB, the aligned faces, in that order.
        matrices: float64 (2, 3), each maps (x, y, 1) in the image to its crop.
        threshold: the confidence below which a face will be answered "uncertain", 0 to 1.
    """

    result: ImageResult
    detections: Sequence[Detection] = ()
    crops: Sequence[NDArray[np.uint8]] = ()
    matrices: Sequence[NDArray[np.float64]] = ()
    threshold: float = 0.0

    @property
    def kept_bytes(self) -> int:
        """Size of the image, if it is kept."""
        return 0 if self.result.image is None else self.result.image.nbytes


class Recognizer:
    """Reads the faces and their expressions in images.

    Examples:
        >>> from ddamfn import Recognizer
        >>> result = Recognizer().predict("photo.jpg")  # doctest: +SKIP
        >>> result.faces[0].expression  # doctest: +SKIP
        'happiness'

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        min_detection_score: faces that the detector scores lower are left out, above 0 to 1.
        max_faces: only this many of each image, those with the highest score; None for all.
        batch_size: faces that `predict_many` collects before it classifies them together.
        num_threads: how many threads detector and classifier may use; None leaves it to ONNX Runtime (one a core).
        min_precision: the share of answers that must be correct, above 0 to 1: faces below the confidence that keeps
            it on the weights' validation images (see `ddamfn.weights.threshold_for`) are answered "uncertain" and keep
            their probabilities. None answers always.

    Attributes:
        card: the weights' card.
        threshold: the confidence below which a face is answered "uncertain", 0 to 1; 0 without `min_precision`.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
        UsageError: an argument is out of range, or the weights cannot keep `min_precision`.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        min_detection_score: float = 0.5,
        max_faces: int | None = None,
        batch_size: int = 16,
        num_threads: int | None = None,
        min_precision: float | None = None,
    ) -> None:
        _check(min_detection_score, max_faces=max_faces, batch_size=batch_size, num_threads=num_threads)
        self._classifier = Classifier(weights, num_threads)
        self._detector = RetinaFace(num_threads)
        self.card = self._classifier.card
        self.threshold = _threshold(self.card, min_precision)
        self._alignment = alignment_of(self.card)
        self._min_score, self._max_faces, self._batch_size = min_detection_score, max_faces, batch_size

    def predict(self, image: ImageInput) -> ImageResult:
        """Read one image.

        Args:
            image: a path, a file's bytes, a Pillow image, or an array uint8 (H, W, 3) RGB.

        Returns:
            The faces, surest detection first; none is a result too. It keeps the image, for `plot()`.

        Raises:
            UnreadableImage: the image is missing, damaged, too large, or not an image.
        """
        return self.classify([self.find_faces(image, keep_image=True)])[0]

    def predict_many(self, images: Iterable[ImageInput], *, keep_images: bool = False) -> Iterator[ImageResult]:
        """Read many images, lazily and in constant memory, the faces of consecutive images in one batch.

        Results come in order, at the latest when `batch_size` faces have been collected. An image that cannot be read
        becomes a result with `error` set and never ends the run.

        Args:
            images: any iterable, a generator too; read no further ahead than a batch needs.
            keep_images: keep each image in its result, for `plot()`; its memory is then freed with the result.

        Yields:
            One result an image.

        Raises:
            UsageError: `images` is a single image.
        """
        if isinstance(images, (str, bytes, Path, Image.Image)):
            raise UsageError("predict_many() takes several images: put this one into a list, or call predict()")
        waiting: list[FoundFaces] = []
        for image in images:
            waiting.append(self._try_to_find_faces(image, keep=keep_images))
            faces = sum(len(entry.crops) for entry in waiting)
            kept = sum(entry.kept_bytes for entry in waiting)
            # Without any face nothing waits for a batch, and a run of scenery flows through at once.
            if not faces or faces >= self._batch_size or len(waiting) >= self._batch_size or kept > _MOST_WAITING_BYTES:
                yield from self.classify(waiting)
                waiting = []
        yield from self.classify(waiting)

    def find_faces(
        self,
        image: ImageInput,
        *,
        keep_image: bool = False,
        min_detection_score: float | None = None,
        max_faces: int | None = None,
        min_precision: float | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> FoundFaces:
        """Find and align the faces of one image: the first half of `predict`, for callers that batch by themselves.

        Several threads may do this at once.

        Args:
            image: as in `predict`.
            keep_image: keep the image and the crops in the result, for `plot()`.
            min_detection_score: in place of this recognizer's, for this image.
            max_faces: likewise.
            min_precision: likewise.
            max_pixels: images with more are refused before they are decoded.

        Raises:
            ImageTooLarge: more pixels than `max_pixels`.
            UnreadableImage: the image is missing, damaged, or not an image.
            UsageError: an argument is out of range, or the weights cannot keep `min_precision`.
        """
        min_detection_score = self._min_score if min_detection_score is None else min_detection_score
        max_faces = self._max_faces if max_faces is None else max_faces
        _check(min_detection_score, max_faces=max_faces)
        threshold = self.threshold if min_precision is None else _threshold(self.card, min_precision)
        pixels = decode(image, max_pixels=max_pixels)
        name = _name(image)
        height, width = pixels.shape[:2]
        result = ImageResult(name, width, height, classes=self.card.labels, image=pixels if keep_image else None)
        found = []
        for detection in self._detector.detect(pixels, min_detection_score=min_detection_score, max_faces=max_faces):
            try:
                found.append((detection, align(pixels, detection.landmarks, self._alignment)))
            except DegenerateFace as error:
                # Not a face that anything could be read from; seen in noise, never in photographs.
                _LOGGER.warning("%s: a detection at score %.2f is left out: %s", name, detection.score, error)
        detections, crops = [entry for entry, _ in found], [crop for _, crop in found]
        return FoundFaces(
            result, detections, [crop.pixels for crop in crops], [crop.matrix for crop in crops], threshold
        )

    def classify(self, images: Sequence[FoundFaces]) -> list[ImageResult]:
        """Classify the found faces of several images together: the second half of `predict`.

        A face's result does not depend on the others.

        Args:
            images: what `find_faces` returned.

        Returns:
            One result an image, in order.

        Raises:
            WeightsError: the network gives logits that are not finite.
        """
        crops = [crop for entry in images for crop in entry.crops]
        if not crops:
            return [entry.result for entry in images]
        logits, attention = self._classifier.classify(np.stack(crops))
        probabilities = self._classifier.probabilities(logits)
        results, row = [], 0
        for entry in images:
            faces = []
            for detection, crop, matrix in zip(entry.detections, entry.crops, entry.matrices, strict=True):
                faces.append(
                    Face(
                        bbox=BBox(*(float(value) for value in detection.bbox)),
                        score=detection.score,
                        landmarks=Landmarks.from_points(detection.landmarks),
                        prediction=self._prediction(probabilities[row], entry.threshold),
                        matrix=matrix,
                        attention=attention[row].copy() if attention.shape[1] else None,
                        aligned=None if entry.result.image is None else crop,
                    )
                )
                row += 1
            results.append(replace(entry.result, faces=faces))
        return results

    def _try_to_find_faces(self, image: ImageInput, *, keep: bool) -> FoundFaces:
        try:
            return self.find_faces(image, keep_image=keep)
        except (DdamfnError, MemoryError) as error:
            name = _name(image)
            reason = str(error).removeprefix(f"{name}: ") or "not enough memory for this image"
            return FoundFaces(ImageResult(name, None, None, error=reason, classes=self.card.labels))

    def _prediction(self, probabilities: NDArray[np.float64], threshold: float) -> Prediction:
        return Prediction.of(dict(zip(self.card.labels, probabilities.tolist(), strict=True)), threshold)


def _check(min_detection_score: float, **numbers: int | None) -> None:
    if not 0 < min_detection_score <= 1:
        raise UsageError(f"min_detection_score must be above 0 and at most 1, not {min_detection_score}")
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}")


def _threshold(card: Card, precision: float | None) -> float:
    if precision is None:
        return 0.0
    if card.calibration is None:
        raise UsageError(
            f"{card.name} cannot abstain: its card has no precision measured on validation images; export the "
            "weights again with their data, or ask for an answer to every face"
        )
    return threshold_for(card.calibration, precision)


def _name(image: ImageInput) -> str:
    if isinstance(image, bytes):
        return "<bytes>"
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or "<image>")
    return "<array>" if isinstance(image, np.ndarray) else str(image)
