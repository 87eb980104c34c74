"""One image to one crop: which face, whose landmarks, and what is left without either."""

import io
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from ddamfn.errors import UnreadableImage
from ddamfn.faces import Alignment, Detection, DetectionMode, align, plain_resize
from ddamfn.preparation.image import Hints, choose_face, prepare_image, unreadable
from ddamfn.synthetic import synthetic_face

ALIGNMENT = Alignment("ddamfn_frontal")


def face(x: float, y: float, score: float, size: float = 20.0) -> Detection:
    bbox = np.array([x - size, y - size, x + size, y + size], dtype=np.float32)
    points = np.array([[-8, -8], [8, -8], [0, 0], [-6, 8], [6, 8]], dtype=np.float32) + np.float32([x, y])
    return Detection(bbox, points, score)


class Fixed:
    """A detector that always finds the same faces and remembers what it was shown."""

    def __init__(self, *faces: Detection) -> None:
        self.faces, self.seen = list(faces), []

    def detect(self, image: np.ndarray, *, detection: DetectionMode) -> list[Detection]:
        self.seen.append(image.shape)
        return self.faces


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (100, 160, 3), dtype=np.uint8)


def test_score_counts_as_much_as_nearness_to_the_center() -> None:
    center, half = (80.0, 50.0), float(np.hypot(160, 100)) / 2
    middle, edge = face(82, 52, 0.9), face(10, 10, 0.99)
    assert choose_face([edge, middle], center, half) is middle
    assert choose_face([edge, face(82, 52, 0.05)], center, half) is edge
    strong, weak = face(80, 40, 0.9), face(80, 60, 0.8)
    assert choose_face([weak, strong], center, half) is strong


def test_the_crop_is_that_of_the_chosen_face(image: np.ndarray) -> None:
    faces = [face(15, 15, 0.99), face(80, 50, 0.9)]
    outcome, pixels = prepare_image(image, Hints(), Fixed(*faces), ALIGNMENT)
    expected = align(image, faces[1].landmarks, ALIGNMENT)
    assert outcome.found
    assert outcome.score == pytest.approx(0.9)
    assert (outcome.landmarks == faces[1].landmarks).all()
    assert (outcome.matrix == expected.matrix).all()
    assert (pixels == expected.pixels).all()


def test_what_was_decoded_smaller_is_told_in_the_pixels_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (320, 200), (90, 120, 60)).save(stream, "JPEG")
    hints = [Hints(bbox=(100, 40, 220, 160)), Hints(landmarks=tuple(map(tuple, face(160, 100, 1).landmarks.tolist())))]
    detector = Fixed(face(60, 50, 0.9))
    outcomes = [prepare_image(stream.getvalue(), hint, detector, ALIGNMENT)[0] for hint in hints]
    monkeypatch.setattr(import_module("ddamfn.faces.decode"), "MAX_PIXELS", 200 * 320 // 4)
    reused = Hints(reused=(hints[1].landmarks, 0.5))
    smaller = [prepare_image(stream.getvalue(), hint, detector, ALIGNMENT)[0] for hint in (*hints, reused)]
    assert detector.seen == [(200, 240, 3), (100, 120, 3)]  # the box with its surroundings
    np.testing.assert_allclose(smaller[1].landmarks, outcomes[1].landmarks, rtol=1e-6)
    np.testing.assert_allclose(smaller[1].matrix, outcomes[1].matrix, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(smaller[2].landmarks, outcomes[1].landmarks, rtol=1e-6)


def test_without_a_face_the_whole_image_is_resized(image: np.ndarray) -> None:
    outcome, pixels = prepare_image(image, Hints(), Fixed(), ALIGNMENT)
    expected = plain_resize(image, ALIGNMENT)
    assert not outcome.found
    assert outcome.landmarks is None
    assert outcome.error == ""
    assert (pixels == expected.pixels).all()
    assert (outcome.matrix == expected.matrix).all()


def test_the_sets_own_landmarks_need_no_detector(image: np.ndarray) -> None:
    detector = Fixed(face(80, 50, 0.9))
    points = tuple((float(x), float(y)) for x, y in face(40, 40, 1.0).landmarks)
    outcome, pixels = prepare_image(image, Hints(landmarks=points), detector, ALIGNMENT)
    assert detector.seen == []
    assert outcome.found
    assert outcome.score is None
    assert (pixels == align(image, np.array(points), ALIGNMENT).pixels).all()


def test_what_an_earlier_run_found_needs_no_detector(image: np.ndarray) -> None:
    detector = Fixed(face(80, 50, 0.9))
    points = tuple((float(x), float(y)) for x, y in face(40, 40, 1.0).landmarks)
    outcome, _ = prepare_image(image, Hints(reused=(points, 0.7)), detector, ALIGNMENT)
    assert (outcome.found, outcome.score) == (True, 0.7)
    outcome, _ = prepare_image(image, Hints(reused=False), detector, ALIGNMENT)
    assert not outcome.found
    assert detector.seen == []


def test_landmarks_on_one_line_fall_back(image: np.ndarray) -> None:
    line = tuple((float(i), float(i)) for i in range(5))
    outcome, pixels = prepare_image(image, Hints(landmarks=line), Fixed(), ALIGNMENT)
    assert not outcome.found
    assert (pixels == plain_resize(image, ALIGNMENT).pixels).all()


def test_a_marked_face_is_searched_in_and_around_its_box(image: np.ndarray) -> None:
    detector = Fixed(face(30, 20, 0.9), face(6, 5, 0.95, size=5))
    box = (100.0, 40.0, 140.0, 80.0)
    outcome, pixels = prepare_image(image, Hints(bbox=box), detector, ALIGNMENT)
    assert detector.seen == [(80, 80, 3)]  # half a box more on each side: 80..160, 20..100
    assert outcome.landmarks is not None
    assert outcome.landmarks[2].tolist() == [110.0, 40.0]
    assert (pixels == align(image, outcome.landmarks, ALIGNMENT).pixels).all()


def test_a_marked_face_that_is_not_found_is_its_box_resized(image: np.ndarray) -> None:
    outcome, pixels = prepare_image(image, Hints(bbox=(100.0, 40.0, 140.0, 80.0)), Fixed(), ALIGNMENT)
    assert (pixels == plain_resize(image[40:80, 100:140], ALIGNMENT).pixels).all()
    assert outcome.matrix is not None
    assert np.allclose(outcome.matrix @ [100, 40, 1], [0, 0])
    assert np.allclose(outcome.matrix @ [140, 80, 1], [112, 112])


def test_a_box_outside_the_image_is_ignored(image: np.ndarray) -> None:
    detector = Fixed()
    prepare_image(image, Hints(bbox=(900.0, 900.0, 950.0, 950.0)), detector, ALIGNMENT)
    assert detector.seen == [image.shape]


def test_reasons_stand_on_one_line() -> None:
    assert unreadable(UnreadableImage("a.png: gone;\nrestore it")).error == "a.png: gone; restore it"
    assert unreadable(ValueError("odd")).error == "ValueError: odd"
    assert unreadable(MemoryError()).error == "MemoryError: MemoryError"


def test_images_that_cannot_be_decoded_say_so() -> None:
    with pytest.raises(UnreadableImage):
        prepare_image(b"no image", Hints(), Fixed(), ALIGNMENT)


def test_drawn_landmarks_land_on_the_template(rng: np.random.Generator) -> None:
    pixels, landmarks = synthetic_face("happiness", rng, 160)
    hints = Hints(landmarks=tuple((float(x), float(y)) for x, y in landmarks))
    outcome, _ = prepare_image(pixels, hints, Fixed(), ALIGNMENT)
    assert outcome.matrix is not None
    moved = landmarks @ outcome.matrix[:, :2].T + outcome.matrix[:, 2]
    assert np.abs(moved - ALIGNMENT.points()[0]).mean() < 6
