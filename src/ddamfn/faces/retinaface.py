"""The face detector: RetinaFace with a MobileNet 0.25 trunk, run by ONNX Runtime.

The network is unpacked into this package when it is built; its license (MIT) lies beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import UsageError, WeightsError
from ddamfn.faces.boxes import Found, intersection_over_union, suppress
from ddamfn.faces.search import FIRST_SIDE_PX, DetectionMode, check_detection, look_around, search
from ddamfn.faces.sessions import Providers, open_session
from ddamfn.files import sha256_bytes

if TYPE_CHECKING:
    import onnxruntime

NETWORK_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""sha256 of the network's file, recorded in prepared sets and cards: landmarks of detectors differ."""

# Kept because the network was trained with it: blue, green, red. Some ports write 127 for red.
_MEAN_BGR = np.array([104, 117, 123], dtype=np.float32)
_STRIDES = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
_CENTER_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_MAX_CANDIDATES = 5000

# A box of another detector is searched with half its sides as a margin, since detectors cut faces differently; what is
# found must have this intersection over union with the box.
_BOX_MARGIN = 0.5
_BOX_MIN_SCORE = 0.1
_BOX_MIN_OVERLAP = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face that was found, in float32; or one that the caller gave, in float64.

    Attributes:
        bbox: (4,), (x1, y1, x2, y2) in pixels of the image; clipped to it if found.
        landmarks: (5, 2), (x, y) in pixels: viewer's left eye, right eye, nose, left and right corner of the mouth.
            They may lie outside the image.
        score: the detector's, 0 to 1; NaN if no detector scored it.
    """

    bbox: NDArray[np.floating[Any]]
    landmarks: NDArray[np.floating[Any]]
    score: float


class RetinaFace:
    """Finds faces and their five landmarks.

    Decoding is in floating point to the end: landmarks cut to whole pixels would shift the alignment of small faces.

    Args:
        num_threads: how many threads one detection may use; None for `OMP_NUM_THREADS`, else one per core.
        providers: as for `ddamfn.Recognizer`.
        session_options: as for `ddamfn.Recognizer`.

    Raises:
        WeightsError: the network is not in the installed package, or not the one expected.
        UsageError: a provider is not installed, or both `num_threads` and `session_options` are given.

    Source: Deng et al. 2020, RetinaFace; weights: yakhyo/retinaface-pytorch, trained on WIDER FACE.
    """

    def __init__(
        self,
        num_threads: int | None = None,
        *,
        providers: Providers | None = None,
        session_options: "onnxruntime.SessionOptions | None" = None,
    ) -> None:
        self._session = open_session(
            _read_network(), num_threads=num_threads, providers=providers, session_options=session_options
        )

    def detect(
        self,
        image: NDArray[np.uint8],
        *,
        min_detection_score: float = 0.5,
        max_faces: int | None = None,
        detection: DetectionMode = "auto",
    ) -> list[Detection]:
        """Find the faces of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            min_detection_score: faces with a lower score are left out, 0 to 1.
            max_faces: only this many, those with the highest score; None for all.
            detection: how closely to look. "auto" looks again, and in other turns, where no face or a doubtful one was
                found; "full" looks at every pixel; a number of pixels is one look, with the longer side shrunk to it,
                and costs time in proportion to the area. See `ddamfn.faces.search`.

        Returns:
            The faces by falling score; an empty list if there is none.

        Raises:
            UsageError: `image` is not of that shape and type, or `detection` is none of these.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise UsageError(f"expected an image (H, W, 3) of uint8, not {image.shape} of {image.dtype}")
        check_detection(detection)
        return _detections(search(image, self._look, detection, min_detection_score), image, max_faces)

    def detect_near(
        self, image: NDArray[np.uint8], before: Sequence[Detection], *, min_detection_score: float = 0.5
    ) -> list[Detection] | None:
        """Find the faces of a video's frame around where they were some frames before.

        Args:
            image: (H, W, 3) uint8 RGB.
            before: the faces of an earlier frame, at least one.
            min_detection_score: as for `detect`.

        Returns:
            The same number of faces, by falling score; None if one of them is not found again. A face that is new in
            the image is not found.
        """
        boxes = np.stack([np.asarray(face.bbox, dtype=np.float32) for face in before])
        found = look_around(image, self._look, boxes, min_detection_score)
        return None if found is None else _detections(found, image, None)

    def detect_in_box(self, image: NDArray[np.uint8], box: NDArray[np.floating[Any]]) -> Detection | None:
        """Find the face that another detector's box encloses.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: (4,), x1, y1, x2, y2 in pixels; it may reach beyond the image.

        Returns:
            The face whose box overlaps `box` the most, in pixels of `image`; None if their intersection over union is
            below 0.3.
        """
        height, width = image.shape[:2]
        margin = _BOX_MARGIN * np.tile(box[2:] - box[:2], 2)
        around = np.round(box + margin * (-1, -1, 1, 1))
        left, top, right, bottom = np.clip(around, 0, (width, height, width, height)).astype(int)
        found = self.detect(image[top:bottom, left:right], min_detection_score=_BOX_MIN_SCORE, detection=FIRST_SIDE_PX)
        corner = np.array([left, top], dtype=np.float32)
        moved = [Detection(face.bbox + np.tile(corner, 2), face.landmarks + corner, face.score) for face in found]
        best = max(moved, key=lambda face: intersection_over_union(face.bbox, box), default=None)
        return None if best is None or intersection_over_union(best.bbox, box) < _BOX_MIN_OVERLAP else best

    def _look(self, image: NDArray[np.uint8], min_detection_score: float) -> Found:
        """Detect at the given image's own scale."""
        batch = np.empty((1, 3, *image.shape[:2]), dtype=np.float32)
        for channel, mean in enumerate(_MEAN_BGR):
            np.subtract(image[:, :, 2 - channel], mean, out=batch[0, channel])
        offsets, confidence, points = self._session.run(("loc", "conf", "landmarks"), {"input": batch})
        scores = confidence[0, :, 1]
        order = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
        order = order[scores[order] >= min_detection_score]
        anchors = _anchors(*image.shape[:2])[order]
        boxes = _decode_boxes(offsets[0, order], anchors)
        landmarks = _decode_landmarks(points[0, order], anchors)
        return Found(boxes, landmarks, scores[order]).take(suppress(boxes))


def _detections(found: Found, image: NDArray[np.uint8], max_faces: int | None) -> list[Detection]:
    """Clip boxes to the image, and leave out faces that lie beyond it."""
    height, width = image.shape[:2]
    boxes = np.clip(found.boxes.reshape(-1, 2, 2), 0, (width, height)).reshape(-1, 4).astype(np.float32)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    rows = np.flatnonzero(visible)[:max_faces]
    return [Detection(boxes[row], found.landmarks[row], float(found.scores[row])) for row in rows]


def _read_network() -> bytes:
    network = files("ddamfn").joinpath("faces", "networks", "retinaface.onnx")
    if not network.is_file():
        raise WeightsError("the face detector's network is missing: install the package again (pip install .)")
    content = network.read_bytes()
    if sha256_bytes(content) != NETWORK_SHA256:
        raise WeightsError("the face detector's network is damaged: install the package again (pip install .)")
    return content


@lru_cache(maxsize=8)
def _anchors(height: int, width: int) -> NDArray[np.float32]:
    """Return the anchors, (A, 3) float32: center x, center y, side in pixels, in the order of the network's outputs."""
    levels = []
    for stride, sides in _STRIDES:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.array(sides), indexing="ij")
        levels.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side], axis=-1).reshape(-1, 3))
    anchors = np.concatenate(levels).astype(np.float32)
    anchors.flags.writeable = False
    return anchors


def _decode_boxes(offsets: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    centers = anchors[:, :2] + offsets[:, :2] * _CENTER_VARIANCE * anchors[:, 2:]
    sizes = anchors[:, 2:] * np.exp(offsets[:, 2:] * _SIZE_VARIANCE)
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)


def _decode_landmarks(points: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    return anchors[:, None, :2] + points.reshape(-1, 5, 2) * _CENTER_VARIANCE * anchors[:, None, 2:]
