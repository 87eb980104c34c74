"""Picture to faces to expressions: the one place where the face detector and the weights meet."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import DdamfnError, DegenerateFace, UsageError, WeightsError
from ddamfn.faces import Alignment, Appearance, Detection, RetinaFace, align, apply_appearance, decode, normalise
from ddamfn.results import UNCERTAIN, BBox, Face, ImageResult, Landmarks, Prediction
from ddamfn.weights import Card, find_weights, threshold_for, verify

_LOGGER = logging.getLogger(__name__)

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""What can be read: a path, a file's bytes, a Pillow picture, or uint8 (H, W, 3) RGB."""

# Pictures that wait for their batch are dropped to this many bytes of kept pixels, whatever the batch: with
# 50-megapixel photographs sixteen of them would need 2.4 GB.
_MOST_WAITING_BYTES = 256 * 2**20
# Faces that the network sees in one run. Measured on one core of 2024: 6.8 ms a face in fours, 8.0 ms in sixteens,
# whose maps no longer fit the cache, and 7.9 ms alone.
_CHUNK = 4


class Classifier:
    """Aligned faces to logits and attention maps, by ONNX Runtime.

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        threads: how many threads one run may use; None leaves it to ONNX Runtime (one a core).

    Attributes:
        card: the weights' card.

    Raises:
        WeightsError: there are no such weights, the file is damaged, or the network does not fit its card.
    """

    def __init__(self, weights: str | os.PathLike[str] | None = None, threads: int | None = None) -> None:
        path, self.card = find_weights(weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        content = verify(self.card, path)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class
            reason = " ".join(str(error).split())
            raise WeightsError(f"{path} is no network that ONNX Runtime can run: {reason}") from error
        names = {output.name for output in self._session.get_outputs()}
        if not {"logits", "attention"} <= names or [entry.name for entry in self._session.get_inputs()] != ["input"]:
            raise WeightsError(f"{path} must have the input 'input' and the outputs 'logits' and 'attention'")
        self._appearance = Appearance(**self.card.appearance)

    def classify(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify aligned faces, in chunks, so that any number fits into memory.

        A face's result does not depend on the others: the network sees each on its own.

        Args:
            crops: uint8 (N, S, S, 3) RGB, with S the card's `input_side_px`; N may be 0.

        Returns:
            Logits float32 (N, K) in the order of the card's labels, before the temperature; attention float32
            (N, A, 7, 7), each head's mean over its channels, 0 to 1.

        Raises:
            ValueError: `crops` is not of that shape and type.
            WeightsError: the network gives logits that are not finite, or more or fewer than its card has labels.
        """
        side = self.card.input_side_px
        if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3):
            raise ValueError(f"expected crops (N, {side}, {side}, 3) of uint8, not {crops.shape} of {crops.dtype}")
        if not len(crops):
            heads = self.card.architecture["num_heads"]
            return np.zeros((0, len(self.card.labels)), np.float32), np.zeros((0, heads, 7, 7), np.float32)
        chunks = [self._run(crops[start : start + _CHUNK]) for start in range(0, len(crops), _CHUNK)]
        logits, attention = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        if logits.shape[1] != len(self.card.labels):
            raise WeightsError(
                f"the network gives {logits.shape[1]} logits, its card has {len(self.card.labels)} labels"
            )
        if not np.isfinite(logits).all():
            raise WeightsError(
                f"the network of {self.card.name} gives logits that are not finite: get the weights again"
            )
        return logits, attention

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Turn logits into calibrated probabilities with the card's temperature.

        Args:
            logits: (N, K).

        Returns:
            float64 (N, K); each row sums to 1.
        """
        scaled = logits.astype(np.float64) / self.card.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return cast(NDArray[np.float64], exponentials / exponentials.sum(axis=1, keepdims=True))

    def _run(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = normalise(apply_appearance(crops, self._appearance), self.card.mean, self.card.std)
        logits, attention = self._session.run(("logits", "attention"), {"input": pixels})
        return logits, attention


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture whose faces are cut out but not classified yet, and its result so far."""

    result: ImageResult
    detections: Sequence[Detection] = ()
    crops: Sequence[NDArray[np.uint8]] = ()
    matrices: Sequence[NDArray[np.float64]] = ()

    @property
    def kept_bytes(self) -> int:
        return 0 if self.result.image is None else self.result.image.nbytes


class Recognizer:
    """Reads the faces and their expressions in pictures.

    Example:
        >>> from ddamfn import Recognizer
        >>> result = Recognizer().predict("photo.jpg")  # doctest: +SKIP
        >>> result.faces[0].expression  # doctest: +SKIP
        'happiness'

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        min_score: faces that the detector scores lower are left out, above 0 to 1.
        max_faces: only this many of each picture, those with the highest score; None for all.
        batch: faces that `predict_many` collects before it classifies them together.
        threads: how many threads detector and classifier may use; None leaves it to ONNX Runtime (one a core).
        abstain: the share of answers that shall be right, above 0 to 1: faces below the confidence that keeps it on
            the weights' validation pictures (see `ddamfn.weights.threshold_for`) are answered "uncertain" and keep
            their probabilities. None answers always.

    Attributes:
        card: the weights' card.
        threshold: the confidence below which a face is answered "uncertain", 0 to 1; 0 without `abstain`.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
        UsageError: an argument is out of range, or the weights cannot keep the precision that `abstain` asks for.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        min_score: float = 0.5,
        max_faces: int | None = None,
        batch: int = 16,
        threads: int | None = None,
        abstain: float | None = None,
    ) -> None:
        if not 0 < min_score <= 1:
            raise UsageError(f"min_score must be above 0 and at most 1, not {min_score}")
        for name, number in (("max_faces", max_faces), ("batch", batch), ("threads", threads)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}")
        self._classifier = Classifier(weights, threads)
        self._detector = RetinaFace(threads)
        self.card = self._classifier.card
        self.threshold = 0.0 if abstain is None else _threshold(self.card, abstain)
        entry = self.card.alignment
        self._alignment = Alignment(entry["template"], entry["margin"], entry["side_px"])
        self._min_score, self._max_faces, self._batch = min_score, max_faces, batch

    def predict(self, picture: Picture) -> ImageResult:
        """Read one picture.

        Args:
            picture: a path, a file's bytes, a Pillow picture, or an array uint8 (H, W, 3) RGB.

        Returns:
            The faces, surest detection first; none is a result too. It keeps the picture, for `plot()`.

        Raises:
            UnreadableImage: the picture is missing, damaged, too large, or not a picture.
        """
        return self._finish([self._find_faces(picture, keep=True)], keep=True)[0]

    def predict_many(self, pictures: Iterable[Picture], *, keep_images: bool = False) -> Iterator[ImageResult]:
        """Read many pictures, lazily and in constant memory, the faces of consecutive pictures in one batch.

        Results come in order, at the latest when `batch` faces have been collected. A picture that cannot be read
        becomes a result with `error` set and never ends the run.

        Args:
            pictures: any iterable, a generator too; read no further ahead than a batch needs.
            keep_images: keep each picture in its result, for `plot()`; its memory is then freed with the result.

        Yields:
            One result a picture.

        Raises:
            UsageError: `pictures` is a single picture.
        """
        if isinstance(pictures, (str, bytes, Path, Image.Image)):
            raise UsageError("predict_many() takes several pictures: put this one into a list, or call predict()")
        waiting: list[_Waiting] = []
        for picture in pictures:
            waiting.append(self._try_to_find_faces(picture, keep=keep_images))
            faces = sum(len(entry.crops) for entry in waiting)
            kept = sum(entry.kept_bytes for entry in waiting)
            # Without any face nothing waits for a batch, and a run of scenery flows through at once.
            if not faces or faces >= self._batch or len(waiting) >= self._batch or kept > _MOST_WAITING_BYTES:
                yield from self._finish(waiting, keep=keep_images)
                waiting = []
        yield from self._finish(waiting, keep=keep_images)

    def _try_to_find_faces(self, picture: Picture, *, keep: bool) -> _Waiting:
        try:
            return self._find_faces(picture, keep=keep)
        except (DdamfnError, MemoryError) as error:
            name = _name(picture)
            reason = str(error).removeprefix(f"{name}: ") or "not enough memory for this picture"
            return _Waiting(ImageResult(name, None, None, error=reason, classes=self.card.labels))

    def _find_faces(self, picture: Picture, *, keep: bool) -> _Waiting:
        image = decode(picture)
        name = _name(picture)
        height, width = image.shape[:2]
        result = ImageResult(name, width, height, classes=self.card.labels, image=image if keep else None)
        found = []
        for detection in self._detector.detect(image, min_score=self._min_score, max_faces=self._max_faces):
            try:
                found.append((detection, align(image, detection.landmarks, self._alignment)))
            except DegenerateFace as error:
                # Not a face that anything could be read from; seen in noise, never in photographs.
                _LOGGER.warning("%s: a detection at score %.2f is left out: %s", name, detection.score, error)
        detections, crops = [entry for entry, _ in found], [crop for _, crop in found]
        return _Waiting(result, detections, [crop.pixels for crop in crops], [crop.matrix for crop in crops])

    def _finish(self, waiting: Sequence[_Waiting], *, keep: bool) -> list[ImageResult]:
        """Classify the collected faces together and hand them to their pictures."""
        crops = [crop for entry in waiting for crop in entry.crops]
        if not crops:
            return [entry.result for entry in waiting]
        logits, attention = self._classifier.classify(np.stack(crops))
        probabilities = self._classifier.probabilities(logits)
        results, row = [], 0
        for entry in waiting:
            faces = []
            for detection, crop, matrix in zip(entry.detections, entry.crops, entry.matrices, strict=True):
                faces.append(
                    Face(
                        bbox=BBox(*(float(value) for value in detection.bbox)),
                        score=detection.score,
                        landmarks=Landmarks.from_points(detection.landmarks),
                        prediction=self._prediction(probabilities[row]),
                        matrix=matrix,
                        attention=attention[row].copy() if attention.shape[1] else None,
                        aligned=crop if keep else None,
                    )
                )
                row += 1
            results.append(replace(entry.result, faces=faces))
        return results

    def _prediction(self, probabilities: NDArray[np.float64]) -> Prediction:
        best = int(probabilities.argmax())
        named = dict(zip(self.card.labels, probabilities.tolist(), strict=True))
        confidence = named[self.card.labels[best]]
        return Prediction(self.card.labels[best] if confidence >= self.threshold else UNCERTAIN, confidence, named)


def _threshold(card: Card, precision: float) -> float:
    if card.calibration is None:
        raise UsageError(
            f"{card.name} cannot abstain: its card has no precision measured on validation pictures; export the "
            "weights again with their data, or ask for an answer to every face"
        )
    return threshold_for(card.calibration, precision)


def _name(picture: Picture) -> str:
    if isinstance(picture, bytes):
        return "<bytes>"
    if isinstance(picture, Image.Image):
        return str(getattr(picture, "filename", "") or "<picture>")
    return "<array>" if isinstance(picture, np.ndarray) else str(picture)
