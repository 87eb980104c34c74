import math
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import WeightsError
from ddamfn.faces import Detection, RetinaFace, decode, retinaface

# Measured by eye on the demo's portrait: eyes, tip of the nose, corners of the mouth.
POINTS = np.array([[206, 101], [246, 103], [223, 127], [202, 137], [245, 141]])


@pytest.fixture(scope="module")
def detector() -> RetinaFace:
    return RetinaFace(num_threads=1)


def _largest_difference(first: Detection, second: Detection) -> float:
    boxes, points = first.bbox - second.bbox, first.landmarks - second.landmarks
    return float(max(np.abs(boxes).max(), np.abs(points).max()))


def _reference(image: NDArray[np.uint8], min_detection_score: float) -> list[tuple[float, list[float], list[float]]]:
    """Detect at the image's own scale, written anchor by anchor from the paper's description."""
    session = onnxruntime.InferenceSession(retinaface._read_network(), providers=["CPUExecutionProvider"])
    blob = np.zeros((1, 3, *image.shape[:2]), dtype=np.float32)
    for channel, mean in enumerate((104, 117, 123)):
        blob[0, channel] = image[:, :, 2 - channel].astype(np.float32) - mean
    loc, conf, points = session.run(["loc", "conf", "landmarks"], {"input": blob})
    anchors = [
        ((column + 0.5) * stride, (row + 0.5) * stride, side)
        for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for row, column in product(range(math.ceil(image.shape[0] / stride)), range(math.ceil(image.shape[1] / stride)))
        for side in sides
    ]
    assert len(anchors) == conf.shape[1]
    faces = []
    for index, (x, y, side) in enumerate(anchors):
        if conf[0, index, 1] >= min_detection_score:
            dx, dy, dw, dh = (float(value) for value in loc[0, index])
            cx, cy = x + 0.1 * dx * side, y + 0.1 * dy * side
            w, h = side * math.exp(0.2 * dw), side * math.exp(0.2 * dh)
            landmarks = [(x, y)[axis % 2] + 0.1 * float(points[0, index, axis]) * side for axis in range(10)]
            faces.append((float(conf[0, index, 1]), [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], landmarks))
    faces.sort(key=lambda face: -face[0])
    kept: list[tuple[float, list[float], list[float]]] = []
    for face in faces:
        if all(_overlap(face[1], other[1]) <= 0.4 for other in kept):
            kept.append(face)
    return kept


def _overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_the_portrait_has_one_face(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait)
    assert face.score > 0.99
    assert isinstance(face.score, float)
    assert face.bbox.dtype == face.landmarks.dtype == np.float32
    assert np.abs(face.landmarks - POINTS).max() < 4
    x1, y1, x2, y2 = face.bbox
    assert (face.landmarks > (x1, y1)).all()
    assert (face.landmarks < (x2, y2)).all()


def test_decoding_agrees_with_a_plain_reference(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    # An odd size, so that the anchors' grids are rounded up; a low score, so that many candidates must be suppressed.
    image = np.concatenate([portrait[:301], portrait[:301, ::-1][:, :333]], axis=1)[:, :845]
    expected = _reference(image, 0.02)
    found = detector.detect(image, min_detection_score=0.02, detection=960)
    assert len(found) == len(expected) >= 3
    for face, (score, box, landmarks) in zip(found, expected, strict=True):
        assert face.score == pytest.approx(score, abs=1e-6)
        np.testing.assert_allclose(face.bbox, np.clip(box, 0, [845, 301, 845, 301]), atol=1e-3)
        np.testing.assert_allclose(face.landmarks.ravel(), landmarks, atol=1e-3)


def test_coordinates_are_not_cut_to_whole_pixels(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait)
    assert (face.landmarks % 1 != 0).all()
    assert (face.bbox % 1 != 0).all()


@pytest.mark.parametrize(("size", "seen_at"), [((2000, 1600), (960, 768)), ((90, 72), (144, 115))])
def test_coordinates_are_the_images_own_at_any_size(
    detector: RetinaFace, portrait: NDArray[np.uint8], size: tuple[int, int], seen_at: tuple[int, int]
) -> None:
    image = Image.fromarray(portrait[:240, 80:380]).resize(size, Image.Resampling.BICUBIC)
    (found,) = detector.detect(np.asarray(image), detection=960)
    (expected,) = detector.detect(
        np.asarray(image.resize(seen_at, Image.Resampling.BICUBIC, reducing_gap=1.0)), detection=960
    )
    ratio = np.array(size) / seen_at
    np.testing.assert_allclose(found.landmarks, expected.landmarks * ratio, rtol=1e-5)
    np.testing.assert_allclose(found.bbox, expected.bbox * np.tile(ratio, 2), rtol=1e-5)
    true = (POINTS - [80, 0]) * size / [300, 240]
    between_eyes = np.linalg.norm(true[1] - true[0])
    assert np.linalg.norm(found.landmarks - true, axis=1).mean() < 0.2 * between_eyes


@pytest.mark.parametrize("margin", [1.0, 1.1, 1.3])
def test_a_face_that_fills_the_image_is_found_once(
    detector: RetinaFace, portrait: NDArray[np.uint8], margin: float
) -> None:
    half = 60 * margin
    corner = np.array([225 - half, max(0, 117 - half)])
    crop = (
        Image.fromarray(portrait).crop((*corner, 225 + half, 117 + half)).resize((960, 960), Image.Resampling.BICUBIC)
    )
    (face,) = detector.detect(np.asarray(crop))
    true = (POINTS - corner) * [960 / (2 * half), 960 / (117 + half - corner[1])]
    assert np.linalg.norm(face.landmarks - true, axis=1).mean() < 0.2 * np.linalg.norm(true[1] - true[0])


def test_small_faces_beside_one_that_is_too_large_are_kept(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    scene = Image.new("RGB", (960, 960), (90, 110, 100))
    scene.paste(Image.fromarray(portrait[40:190, 150:300]).resize((760, 760), Image.Resampling.BICUBIC), (200, 200))
    scene.paste(Image.fromarray(portrait).resize((160, 160), Image.Resampling.BICUBIC), (10, 10))
    sides = sorted(float(face.bbox[3] - face.bbox[1]) for face in detector.detect(np.asarray(scene)))
    assert len(sides) == 2
    assert sides[0] < 60 < 500 < sides[1]


def test_a_larger_side_finds_smaller_faces(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    wide = Image.new("RGB", (1600, 1200), (90, 110, 100))
    wide.paste(Image.fromarray(portrait).resize((112, 112), Image.Resampling.BICUBIC), (700, 500))
    image = np.asarray(wide)
    assert detector.detect(image, detection=480) == []
    (face,) = detector.detect(image, detection=1600)
    assert np.linalg.norm(face.landmarks - (POINTS * 112 / 512 + [700, 500]), axis=1).max() < 4


def test_faces_come_by_falling_score(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    blurred = np.asarray(Image.fromarray(portrait).resize((24, 24)).resize((512, 512), Image.Resampling.BILINEAR))
    image = np.concatenate([blurred, portrait, portrait[:, ::-1]], axis=1)
    faces = detector.detect(image, min_detection_score=0.1)
    assert len(faces) >= 2
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    best = detector.detect(image, min_detection_score=0.1, max_faces=1)
    assert len(best) == 1
    assert _largest_difference(best[0], faces[0]) == 0


def test_the_score_is_a_threshold(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait, detection=960)
    assert len(detector.detect(portrait, min_detection_score=face.score, detection=960)) == 1
    assert detector.detect(portrait, min_detection_score=np.nextafter(face.score, 1), detection=960) == []


def test_a_box_ends_at_the_images_edge(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait[90:400, 212:420])
    assert (face.bbox[:2] == 0).all()
    assert (face.bbox[2:] < (208, 310)).all()
    # The left eye lies outside the image; cutting it to the edge would turn the aligned face.
    assert face.landmarks[0, 0] < 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2), (144, 144), (960, 17)])
@pytest.mark.parametrize("value", [0, 255])
def test_no_face_is_an_empty_list(detector: RetinaFace, shape: tuple[int, int], value: int) -> None:
    assert detector.detect(np.full((*shape, 3), value, dtype=np.uint8)) == []


def test_the_same_image_gives_the_same_numbers(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (first,) = detector.detect(portrait)
    for image in (portrait, np.asfortranarray(portrait)):
        (again,) = detector.detect(image)
        assert _largest_difference(first, again) == 0
        assert first.score == again.score


def test_a_mirrored_image_gives_mirrored_points(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait)
    (mirrored,) = detector.detect(portrait[:, ::-1])
    back = mirrored.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [512, 0]
    assert np.abs(back - face.landmarks).max() < 2.5


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_other_arrays_are_the_callers_error(detector: RetinaFace, image: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"expected an image \(H, W, 3\) of uint8"):
        detector.detect(image)  # type: ignore[arg-type]


def test_a_face_is_found_again_in_a_loose_or_tight_box(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    (face,) = detector.detect(portrait)
    x1, y1, x2, y2 = face.bbox.tolist()
    for box in ((x1, y1, x2, y2), (x1 - 20, y1 - 25, x2 + 15, y2 + 10), (x1 + 8, y1 + 10, x2 - 8, y2 - 10)):
        found = detector.detect_in_box(portrait, np.array(box))
        assert found is not None
        assert np.abs(found.landmarks - face.landmarks).max() < 4


def test_the_face_in_a_box_is_the_boxes_own(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    pair = np.concatenate([portrait[:240, 140:310], portrait[:240, 140:310][:, ::-1]], axis=1)
    both = detector.detect(pair)
    assert len(both) == 2
    for face in both:
        found = detector.detect_in_box(pair, face.bbox)
        assert found is not None
        assert np.abs(found.landmarks - face.landmarks).max() < 4


def test_no_face_in_a_box_is_none(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    assert detector.detect_in_box(portrait, np.array([10.0, 300, 90, 400])) is None
    assert detector.detect_in_box(np.full((40, 40, 3), 90, np.uint8), np.array([0.0, 0, 1, 1])) is None


def test_a_missing_or_damaged_network_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retinaface, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match="is missing: install the package again"):
        RetinaFace()
    folder = tmp_path / "faces" / "networks"
    folder.mkdir(parents=True)
    (folder / "retinaface.onnx").write_bytes(b"not a network")
    with pytest.raises(WeightsError, match="is damaged: install the package again"):
        RetinaFace()


@pytest.mark.ferplus
def test_almost_every_ferplus_image_has_a_face(detector: RetinaFace, ferplus_root: Path) -> None:
    archive_path = ferplus_root / "FER2013Valid.zip"
    if not archive_path.is_file():
        pytest.skip(f"needs {archive_path} as a zip")
    with zipfile.ZipFile(archive_path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        chosen = np.random.default_rng(0).choice(names, 300, replace=False)
        images = [decode(archive.read(name)) for name in chosen]
    found = sum(bool(detector.detect(image, max_faces=1)) for image in images)
    assert found >= 0.98 * 300
