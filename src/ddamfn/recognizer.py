"""The recognizer: detects the faces in an image and classifies their expressions."""

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.faces import ChannelOrder, Detection, DetectionMode, ImageInput, RetinaFace
from ddamfn.faces.decode import image_name, is_stream
from ddamfn.faces.search import check_detection
from ddamfn.faces.sessions import Providers, requested_num_threads
from ddamfn.finder import FaceFinder, FoundFaces, Given
from ddamfn.results import BBox, Face, ImageResult, Landmarks, Prediction
from ddamfn.threads import map_ahead, num_cores
from ddamfn.weights import Card, ClassPrior, threshold_for
from ddamfn.weights.prior import TRAINING, prior_factors, with_factors

if TYPE_CHECKING:
    import onnxruntime

# Images that wait for their batch are dropped to this many bytes of kept pixels, whatever the batch: with
# 50-megapixel photographs sixteen of them would need 2.4 GB.
_MOST_WAITING_BYTES = 256 * 2**20


class Recognizer:
    """Reads the faces and their expressions in images.

    Examples:
        >>> from ddamfn import Recognizer
        >>> recognizer = Recognizer()
        >>> for face in recognizer("photo.jpg"):  # doctest: +SKIP
        ...     print(face.expression, face.confidence, face.bbox.xyxy)

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        min_detection_score: faces that the detector scores lower are left out, above 0 to 1.
        max_faces: only this many of each image, those with the highest score; None for all.
        detection: how closely to look for faces. "auto" looks again where no face was found at 960 px, or one that is
            small, faint or turned; "full" looks at every pixel; a number of pixels is one look with the longer side
            shrunk to it.
        batch_size: faces that `predict_many` collects before it classifies them together.
        num_threads: how many threads detector and classifier may use; None for `OMP_NUM_THREADS`, else one per core.
        min_precision: the share of answers that must be correct, above 0 to 1: faces below the confidence that keeps
            it on the weights' validation images (see `ddamfn.weights.threshold_for`) get the expression "uncertain"
            and keep their probabilities. With None every face gets an expression.
        class_prior: how common the expressions are in the images: "training" for as common as in the training images,
            "uniform" for equally common, or shares by name such as `{"neutral": 0.3}`; expressions that are left out
            divide the rest as in training. Probabilities follow it by the weight on the card. It cannot be combined
            with `min_precision`, which was measured under the mix of the training data.
        providers: ONNX Runtime's execution providers for both networks, the most wanted first: "cpu", "cuda",
            "coreml", "openvino" or full names such as "CUDAExecutionProvider", each alone or in a pair with a mapping
            of its options. The CPU when None. All but the CPU need another onnxruntime package.
        session_options: an `onnxruntime.SessionOptions` for both networks, used as it is; it also sets the threads, so
            `num_threads` cannot be given beside it.
        shrink_on_load: decode a large JPEG only as large as the detector looks at it, at a half to a third of the
            time; a face that has more detail is still cut out of the whole image. Landmarks and probabilities change
            less than by cutting one column off the image; False has them as the whole image gives them.

    Attributes:
        card: the weights' card.
        threshold: the confidence below which a face's expression is "uncertain", 0 to 1; 0 without `min_precision`.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
        UsageError: an argument is out of range, a provider is not installed, or the weights cannot keep
            `min_precision` or have no record of their training images' mix for `class_prior`.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        min_detection_score: float = 0.5,
        max_faces: int | None = None,
        detection: DetectionMode = "auto",
        batch_size: int = 16,
        num_threads: int | None = None,
        min_precision: float | None = None,
        class_prior: ClassPrior = TRAINING,
        providers: Providers | None = None,
        session_options: "onnxruntime.SessionOptions | None" = None,
        shrink_on_load: bool = True,
    ) -> None:
        _check(min_detection_score, max_faces=max_faces, batch_size=batch_size, num_threads=num_threads)
        check_detection(detection)
        self._weights, self._providers, self._session_options = weights, providers, session_options
        self._shrink_on_load = shrink_on_load
        self._open(num_threads)
        self.threshold, self._factors = _confidence(self.card, min_precision, class_prior)
        self._min_precision, self._class_prior = min_precision, class_prior
        self._min_score, self._max_faces, self._batch_size = min_detection_score, max_faces, batch_size
        self._detection = detection

    def predict(
        self,
        image: ImageInput,
        *,
        boxes: ArrayLike | None = None,
        landmarks: ArrayLike | None = None,
        channel_order: ChannelOrder = "rgb",
    ) -> ImageResult:
        """Read one image; `recognizer(image)` does the same.

        With `boxes` or `landmarks` the faces are those of the caller's own detector: row i becomes face i, and
        `min_detection_score` and `max_faces` have no effect. Landmarks are aligned as they are. For a box without
        landmarks the package's detector searches the region around it and takes the landmarks of the face that overlaps
        it the most; if it finds none, mean landmarks in the box are aligned. A face's score is that detector's, NaN if
        there is none.

        Args:
            image: a path, a file's content (bytes, bytearray, memoryview), a binary file object, a Pillow image, or
                an array of uint8 or uint16: (H, W) or (H, W, 1) gray, (H, W, 3) RGB, (H, W, 4) RGBA.
            boxes: (N, 4), x1, y1, x2, y2 in pixels of the upright image; each becomes its face's `bbox`.
            landmarks: (N, 5, 2), (x, y) in pixels of the upright image: viewer's left eye, right eye, nose, left and
                right corner of the mouth. Without `boxes` a face's `bbox` is the rectangle around its aligned crop.
            channel_order: "bgr" for arrays of OpenCV, BGR or BGRA.

        Returns:
            The faces, surest detection first; none is a result too. It keeps the image, for `plot()`.

        Raises:
            UnreadableImage: the image is missing, damaged, too large, or not an image.
            UsageError: another type, dtype or shape of `image`, `boxes` or `landmarks`.
            DegenerateFace: a row of `landmarks` lies on one spot or one line.
        """
        found = self.find_faces(image, boxes=boxes, landmarks=landmarks, channel_order=channel_order, keep_image=True)
        return self.classify([found])[0]

    __call__ = predict

    def predict_many(
        self, images: Iterable[ImageInput], *, keep_images: bool = False, channel_order: ChannelOrder = "rgb"
    ) -> Iterator[ImageResult]:
        """Read many images, lazily and in constant memory, the faces of consecutive images in one batch.

        Results come in order, at the latest when `batch_size` faces have been collected. An image that cannot be read
        becomes a result with `error` set and never ends the run.

        Args:
            images: any iterable, a generator too; read no further ahead than a batch needs. Each as in `predict`.
            keep_images: keep each image in its result, for `plot()`; its memory is then freed with the result.
            channel_order: as in `predict`, for all arrays.

        Returns:
            An iterator with one result per image.

        Raises:
            UsageError: `images` is a single image; while iterating, an entry is of a type that is no image.
        """
        one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
        is_array = isinstance(images, np.ndarray) and images.ndim in (2, 3)
        if isinstance(images, one) or is_array or hasattr(images, "read"):
            raise UsageError("predict_many() takes several images: put this one into a list, or call predict()")
        return self._predict_many(images, keep_images, channel_order)

    def find_faces(
        self,
        image: ImageInput,
        *,
        boxes: ArrayLike | None = None,
        landmarks: ArrayLike | None = None,
        channel_order: ChannelOrder = "rgb",
        keep_image: bool = False,
        min_detection_score: float | None = None,
        max_faces: int | None = None,
        detection: DetectionMode | None = None,
        min_precision: float | None = None,
        class_prior: ClassPrior | None = None,
        max_pixels: int | None = None,
        near: Sequence[Detection] = (),
    ) -> FoundFaces:
        """Find and align the faces of one image, in any thread: the first half of `predict`, for callers that batch.

        Args:
            image: as in `predict`.
            boxes: as in `predict`.
            landmarks: as in `predict`.
            channel_order: as in `predict`.
            keep_image: keep the image and the crops in the result, for `plot()`.
            min_detection_score: in place of this recognizer's, for this image.
            max_faces: likewise.
            detection: likewise.
            min_precision: likewise.
            class_prior: likewise.
            max_pixels: images with more are refused; None for `faces.MAX_PIXELS`, above which a JPEG of up to twice as
                many is decoded smaller.
            near: the faces of an earlier frame: they are looked for around where they were, and in the whole image only
                if one of them is not found again.

        Raises:
            ImageTooLarge: more pixels than `max_pixels`.
            UnreadableImage: the image is missing, damaged, or not an image.
            UsageError: an argument is out of range or of another kind, or not for these weights.
            DegenerateFace: a row of `landmarks` lies on one spot or one line.
        """
        min_score = self._min_score if min_detection_score is None else min_detection_score
        max_faces = self._max_faces if max_faces is None else max_faces
        detection = self._detection if detection is None else detection
        _check(min_score, max_faces=max_faces)
        threshold, factors = self._confidence_for(min_precision, class_prior)
        given = Given(image, channel_order, keep_image, max_pixels)
        if boxes is None and landmarks is None:
            found = self._finder.find(given, min_score, max_faces, detection, near)
        else:
            found = self._finder.given(given, boxes, landmarks)
        return replace(found, threshold=threshold, factors=factors)

    def _confidence_for(
        self, min_precision: float | None, class_prior: ClassPrior | None
    ) -> tuple[float, NDArray[np.float64] | None]:
        """Return threshold and factors for one image; None means this recognizer's."""
        if min_precision is None and class_prior is None:
            return self.threshold, self._factors
        precision = self._min_precision if min_precision is None else min_precision
        prior = self._class_prior if class_prior is None else class_prior
        return _confidence(self.card, precision, prior)

    def classify(self, images: Sequence[FoundFaces]) -> list[ImageResult]:
        """Classify the found faces of several images together: the second half of `predict`.

        A face's result does not depend on the others.

        Args:
            images: what `find_faces` returned.

        Returns:
            One result per image, in order.

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
            faces, rows = [], slice(row, row + len(entry.crops))
            probabilities[rows] = with_factors(probabilities[rows], entry.factors)
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

    def classify_aligned(self, crops: NDArray[np.uint8]) -> list[Prediction]:
        """Classify faces that the caller has aligned, to the template, margin and side on the weights' card.

        Args:
            crops: uint8 (N, S, S, 3) RGB, with S the card's `input_side_px`; N may be 0.

        Returns:
            One prediction per crop, in order.

        Raises:
            UsageError: `crops` is not of that type and shape.
            WeightsError: the network gives logits that are not finite.
        """
        logits, _ = self._classifier.classify(crops)
        probabilities = with_factors(self._classifier.probabilities(logits), self._factors)
        return [self._prediction(row, self.threshold) for row in probabilities]

    def with_num_threads(self, num_threads: int) -> "Recognizer":
        """Return this recognizer with another number of threads, its networks loaded a second time.

        Args:
            num_threads: at least 1.

        Returns:
            This recognizer itself if it has that many already, or if `session_options` set them.

        Raises:
            UsageError: `num_threads` is below 1.
        """
        _check(self._min_score, num_threads=num_threads)
        if self._session_options is not None or self._num_threads == num_threads:
            return self
        other = copy.copy(self)
        other._open(num_threads)
        return other

    @cached_property
    def _with_one_thread(self) -> "Recognizer":
        """This recognizer with networks of one thread, loaded once however many collections are read."""
        return self.with_num_threads(1)

    def _open(self, num_threads: int | None) -> None:
        """Load both networks."""
        self._num_threads = num_threads
        providers, options = self._providers, self._session_options
        self._classifier = Classifier(self._weights, num_threads, providers=providers, session_options=options)
        self.card = self._classifier.card
        detector = RetinaFace(num_threads, providers=providers, session_options=options)
        self._finder = FaceFinder(detector, alignment_of(self.card), self.card.labels, self._shrink_on_load)

    def _predict_many(
        self, images: Iterable[ImageInput], keep: bool, channel_order: ChannelOrder
    ) -> Iterator[ImageResult]:
        workers = self._num_threads or requested_num_threads() or num_cores()
        coming, first = iter(images), deque[ImageInput]()
        if workers > 1:
            first += islice(coming, 2)
        # Networks of one thread leave the cores to the images; for a single image they are not loaded.
        reader = self if workers == 1 or len(first) < 2 else self._with_one_thread

        def one_by_one() -> Iterator[ImageInput]:
            while first:
                yield first.popleft()
            yield from coming

        waiting: list[FoundFaces] = []
        find = partial(reader._try_to_find_faces, keep=keep, channel_order=channel_order)
        for found in _find_ahead(find, one_by_one(), workers):
            waiting.append(found)
            faces = sum(len(entry.crops) for entry in waiting)
            kept = sum(entry.kept_bytes for entry in waiting)
            # Without any face nothing waits for a batch, and a run of scenery flows through at once.
            if not faces or max(faces, len(waiting)) >= self._batch_size or kept > _MOST_WAITING_BYTES:
                yield from reader.classify(waiting)
                waiting = []
        yield from reader.classify(waiting)

    def _try_to_find_faces(self, image: ImageInput, keep: bool, channel_order: ChannelOrder) -> FoundFaces:
        try:
            return self.find_faces(image, keep_image=keep, channel_order=channel_order)
        except (UnreadableImage, MemoryError) as error:
            name = image_name(image)
            reason = str(error).removeprefix(f"{name}: ") or "not enough memory for this image"
            return FoundFaces(ImageResult(name, None, None, error=reason, classes=self.card.labels))

    def _prediction(self, probabilities: NDArray[np.float64], threshold: float) -> Prediction:
        return Prediction.of(dict(zip(self.card.labels, probabilities.tolist(), strict=True)), threshold)


def _find_ahead(
    find: Callable[[ImageInput], FoundFaces], images: Iterable[ImageInput], workers: int
) -> Iterator[FoundFaces]:
    """Find the faces of consecutive images in so many threads."""

    def found_in(image: ImageInput | Future[FoundFaces]) -> FoundFaces:
        return image.result() if isinstance(image, Future) else find(image)

    # A file object may keep its reader waiting, and only in the caller's own thread does an interrupt end the wait.
    ready = (_done(find, image) if workers > 1 and is_stream(image) else image for image in images)
    yield from map_ahead(found_in, ready, workers=workers)


def _done(find: Callable[[ImageInput], FoundFaces], image: ImageInput) -> Future[FoundFaces]:
    """Find an image's faces now, and keep the result, or the error, for later."""
    done: Future[FoundFaces] = Future()
    try:
        done.set_result(find(image))
    except Exception as error:
        done.set_exception(error)
    return done


def _check(min_detection_score: float, **numbers: int | None) -> None:
    if not 0 < min_detection_score <= 1:
        raise UsageError(f"min_detection_score must be above 0 and at most 1, not {min_detection_score}")
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}")


def _confidence(card: Card, precision: float | None, prior: ClassPrior) -> tuple[float, NDArray[np.float64] | None]:
    """Return the threshold of confidence, and the factors of another mix than that of training; not both."""
    threshold, factors = _threshold(card, precision), prior_factors(card, prior)
    if precision is not None and factors is not None:
        raise UsageError(
            "min_precision was measured on images with the mix of the training data, so it promises nothing under "
            "another class prior: leave one of the two out"
        )
    return threshold, factors


def _threshold(card: Card, precision: float | None) -> float:
    if precision is None:
        return 0.0
    if card.calibration is None:
        raise UsageError(
            f"{card.name} cannot abstain: its card has no precision measured on validation images; export the "
            "weights again with their data, or ask for an answer to every face"
        )
    return threshold_for(card.calibration, precision)
