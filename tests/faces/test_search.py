"""Faces of any size and turn: found again from close by, in tiles and in turns, and no face twice."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddamfn.errors import UsageError
from ddamfn.faces import RetinaFace
from ddamfn.faces.boxes import Found, without_phantoms
from ddamfn.faces.search import DetectionMode, shrinking
from ddamfn.results import roll_deg

# The portrait's points and its face's height, as the detector finds them at 512 px.
POINTS = np.array([(204.7, 100.8), (247.4, 103.4), (223.6, 129.2), (202.4, 138.1), (244.3, 140.6)])
FACE_PX = 120.5


@pytest.fixture(scope="module")
def detector() -> RetinaFace:
    return RetinaFace(num_threads=1)


@pytest.fixture
def counted(detector: RetinaFace, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that gets the pixels of every look."""
    pixels: list[int] = []
    look = detector._look

    def count(image: NDArray[np.uint8], score: float) -> Found:
        pixels.append(image.shape[0] * image.shape[1])
        return look(image, score)

    monkeypatch.setattr(detector, "_look", count)
    return pixels


def scene(
    portrait: NDArray[np.uint8], size: tuple[int, int], face_px: float, places: int, angle: int = 0
) -> tuple[NDArray[np.uint8], list[NDArray[np.float64]]]:
    """Paste the portrait several times in a row along the longer side; return the image and each one's points."""
    image = Image.new("RGB", size, (96, 104, 112))
    side = round(512 * face_px / FACE_PX)
    small = Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS).rotate(angle)
    points = POINTS * side / 512 - side / 2
    turn = np.radians(angle)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + side / 2
    corners = [
        tuple(int((length - side) * (share if length == max(size) else 0.5)) for length in size)
        for share in (np.arange(places) + 0.5) / places
    ]
    for corner in corners:
        image.paste(small, corner)
    return np.asarray(image), [points + corner for corner in corners]


def count_found(
    detector: RetinaFace, image: NDArray[np.uint8], wanted: list[NDArray[np.float64]], **how: object
) -> int:
    """Count the faces whose landmarks are within a quarter of the distance between the eyes; none may be extra."""
    faces = detector.detect(image, **how)  # type: ignore[arg-type]
    assert len(faces) <= len(wanted)
    eyes = np.linalg.norm(wanted[0][1] - wanted[0][0])
    return sum(
        any(np.linalg.norm(face.landmarks - points, axis=1).mean() < 0.25 * eyes for face in faces) for points in wanted
    )


@pytest.mark.parametrize(
    ("size", "face_px", "once"),
    [((2742, 1824), 40, 0), ((3000, 500), 45, 0), ((540, 4000), 70, 0)],
    ids=["large", "panorama", "screenshot"],
)
def test_small_faces_are_found_where_one_look_misses_them(
    detector: RetinaFace, portrait: NDArray[np.uint8], size: tuple[int, int], face_px: int, once: int
) -> None:
    image, wanted = scene(portrait, size, face_px, 3)
    assert count_found(detector, image, wanted, detection=960) == once
    assert count_found(detector, image, wanted) == 3


def test_full_finds_what_auto_does_not_look_for(detector: RetinaFace, portrait: NDArray[np.uint8]) -> None:
    image, wanted = scene(portrait, (2600, 1300), 24, 2)
    large = round(512 * 300 / FACE_PX)
    image = image.copy()
    image[:large, :large] = np.asarray(Image.fromarray(portrait).resize((large, large)))[: image.shape[0]]
    everything = [*wanted[1:], POINTS * large / 512]
    assert len(detector.detect(image)) == 1
    faces = detector.detect(image, detection="full")
    assert len(faces) == 2
    for points in everything:
        eyes = np.linalg.norm(points[1] - points[0])
        assert min(np.linalg.norm(face.landmarks - points, axis=1).mean() for face in faces) < 0.25 * eyes


@pytest.mark.parametrize("angle", [90, 180, 270, 60, 120])
def test_turned_faces_are_found_with_their_landmarks(
    detector: RetinaFace, portrait: NDArray[np.uint8], angle: int
) -> None:
    image, wanted = scene(portrait, (1200, 900), 150, 1, angle)
    (face,) = detector.detect(image)
    eyes = np.linalg.norm(wanted[0][1] - wanted[0][0])
    assert np.linalg.norm(face.landmarks - wanted[0], axis=1).mean() < 0.12 * eyes
    turned = float(roll_deg(face.landmarks))
    assert abs((turned + angle + 180) % 360 - 180) < 12


def test_an_image_that_lies_on_its_side_is_read_like_the_upright_one(
    detector: RetinaFace, portrait: NDArray[np.uint8]
) -> None:
    image, wanted = scene(portrait, (900, 600), 90, 3)
    for turn in (1, 2, 3):
        faces = detector.detect(np.ascontiguousarray(np.rot90(image, turn)))
        assert len(faces) == 3
        assert {round(float(roll_deg(face.landmarks)) / 90) % 4 for face in faces} == {(-turn) % 4}
    assert len(detector.detect(image)) == len(wanted)


@pytest.mark.parametrize("blur", [0, 6, 14])
def test_a_large_soft_portrait_has_one_face(detector: RetinaFace, portrait: NDArray[np.uint8], blur: int) -> None:
    image = Image.fromarray(portrait).resize((1400, 1400), Image.Resampling.BICUBIC)
    (face,) = detector.detect(np.asarray(image.filter(ImageFilter.GaussianBlur(blur))))
    assert abs(face.bbox - np.array([177.8, 56.8, 273.2, 177.2]) * 1400 / 512).max() < 40


def test_no_two_faces_share_eyes_nose_or_mouth() -> None:
    boxes = np.array([[10, 10, 50, 60], [5, 40, 60, 110], [48, 10, 90, 60]], dtype=np.float32)
    face = np.array([(20, 25), (40, 25), (30, 38), (22, 50), (38, 50)], dtype=np.float32)
    landmarks = np.stack([face, face + np.array([0, 45]), face + np.array([40, 0])]).astype(np.float32)
    found = Found(boxes, landmarks, np.array([0.99, 0.8, 0.7], dtype=np.float32))
    assert without_phantoms(found).boxes.tolist() == boxes[[0, 2]].tolist()


def test_a_sure_large_face_costs_one_look(
    detector: RetinaFace, portrait: NDArray[np.uint8], counted: list[int]
) -> None:
    image, _ = scene(portrait, (1600, 1200), 300, 1)
    detector.detect(image)
    assert counted == [960 * 720]


@pytest.mark.parametrize("side_px", [48, 64, 100])
def test_a_face_that_fills_its_small_image_costs_one_look(
    detector: RetinaFace, portrait: NDArray[np.uint8], counted: list[int], side_px: int
) -> None:
    face = Image.fromarray(portrait[30:190, 145:305]).resize((side_px, side_px), Image.Resampling.LANCZOS)
    assert len(detector.detect(np.asarray(face))) == 1
    assert counted == [144 * 144]


def test_shapes_of_any_length_stay_affordable(detector: RetinaFace, counted: list[int]) -> None:
    assert detector.detect(np.full((6000, 3, 3), 90, dtype=np.uint8)) == []
    assert sum(counted) < 20 * 960 * 960


@pytest.mark.parametrize("light", ["dark", "flat", "dark around a window"])
def test_faces_are_found_in_bad_light(detector: RetinaFace, portrait: NDArray[np.uint8], light: str) -> None:
    image, wanted = scene(portrait, (480, 360), 100, 1)
    bad = np.rint(np.clip(128 + 0.03 * (image - 128.0), 0, 255) if light == "flat" else 0.02 * image).astype(np.uint8)
    if light == "dark around a window":
        bad[:120, :160] = 250
    assert count_found(detector, bad, wanted, detection=960) == 0
    assert count_found(detector, bad, wanted) == 1


def test_a_lit_face_in_front_of_black_is_seen_as_it_is(
    detector: RetinaFace, portrait: NDArray[np.uint8], counted: list[int]
) -> None:
    image = np.zeros((600, 800, 3), dtype=np.uint8)
    image[100:450, 200:550] = portrait[:350, 80:430]
    (face,), (once,) = (detector.detect(image, detection=detection) for detection in ("auto", 960))
    np.testing.assert_array_equal(face.landmarks, once.landmarks)
    assert len(counted) == 2


@pytest.mark.parametrize("detection", ["all", 0, 143, True, 1.5, None])
def test_other_values_are_refused(detector: RetinaFace, detection: object) -> None:
    with pytest.raises(UsageError, match="detection"):
        detector.detect(np.zeros((200, 200, 3), np.uint8), detection=detection)  # type: ignore[arg-type]


def test_the_roll_is_measured_clockwise() -> None:
    upright = POINTS - POINTS.mean(axis=0)
    start = float(roll_deg(upright))
    for angle in (30, 90, -120, 175):
        turn = np.radians(angle)
        turned = upright @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        assert abs((float(roll_deg(turned)) - start - angle + 180) % 360 - 180) < 1e-6


def test_prepared_sets_are_made_with_one_look(portrait: NDArray[np.uint8]) -> None:
    from ddamfn.preparation.image import Hints, find_landmarks

    asked: list[object] = []

    class Spy:
        def detect(self, image: NDArray[np.uint8], *, detection: object) -> list[object]:
            asked.append(detection)
            return []

    assert find_landmarks(portrait, Hints(), Spy()) is None  # type: ignore[arg-type]
    assert asked == [960]


def test_an_empty_image_costs_a_bounded_number_of_looks_at_any_score(detector: RetinaFace, counted: list[int]) -> None:
    image = np.full((48, 64, 3), 200, dtype=np.uint8)
    assert detector.detect(image, min_detection_score=1e-6)
    assert sum(counted) < 40 * 960 * 640


@pytest.mark.parametrize(
    ("width", "height", "detection", "divisor"),
    [
        (4000, 3000, "auto", 2),
        (3000, 4000, "auto", 2),
        (3838, 2900, "auto", 1),
        (8000, 6000, "auto", 4),
        (16000, 12000, "auto", 8),
        (12000, 2000, "auto", 1),  # the tiles of a long shape are looked at, which are as long as it is high
        (12000, 4000, "auto", 2),
        (4000, 3000, 960, 4),
        (1919, 1919, 960, 1),
        (16000, 12000, "full", 1),
    ],
)
def test_no_image_is_decoded_smaller_than_a_look_shows_it(
    width: int, height: int, detection: DetectionMode, divisor: int
) -> None:
    assert shrinking(width, height, detection) == divisor


def test_faces_are_found_again_around_where_they_were(portrait: NDArray[np.uint8], detector: RetinaFace) -> None:
    canvas = np.full((600, 1000, 3), 118, np.uint8)
    canvas[40:552, 300:812] = portrait
    (face,) = detector.detect(canvas, detection=960)
    moved = np.roll(canvas, (20, -30), axis=(0, 1))
    again = detector.detect_near(moved, [face])
    assert again is not None
    side = float((face.bbox[2:] - face.bbox[:2]).max())
    np.testing.assert_allclose(again[0].landmarks, face.landmarks + np.array([-30, 20]), atol=0.04 * side)
    # Gone, or two faces that have become one: only a whole look can tell.
    assert detector.detect_near(np.full_like(canvas, 118), [face]) is None
    assert detector.detect_near(canvas, [face, face]) is None
