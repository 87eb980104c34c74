"""Synthetic faces: reproducible, varied, with landmarks where a detector finds them, and expressions that differ."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import UnknownLabel
from ddamfn.faces.align import Alignment, align
from ddamfn.faces.retinaface import RetinaFace
from ddamfn.labels import EXPRESSIONS
from ddamfn.synthetic import sample_person, synthetic_face
from ddamfn.synthetic.expressions import SHAPES, sample_shape


@pytest.mark.parametrize("side_px", [48, 112, 225])
def test_shape_type_and_landmarks_inside(side_px: int, rng: np.random.Generator) -> None:
    pixels, landmarks = synthetic_face("fear", rng, side_px)
    assert pixels.shape == (side_px, side_px, 3)
    assert pixels.dtype == np.uint8
    assert landmarks.shape == (5, 2)
    assert landmarks.dtype == np.float32
    assert (landmarks > 0).all()
    assert (landmarks < side_px - 1).all()


@pytest.mark.parametrize("label", EXPRESSIONS)
def test_same_seed_same_image_and_other_seed_another(label: str) -> None:
    first, points = synthetic_face(label, np.random.default_rng(3), 64)
    again, same_points = synthetic_face(label, np.random.default_rng(3), 64)
    other, _ = synthetic_face(label, np.random.default_rng(4), 64)
    assert np.array_equal(first, again)
    assert np.array_equal(points, same_points)
    assert not np.array_equal(first, other)


def test_landmarks_keep_the_viewers_order_also_when_mirrored() -> None:
    for seed in range(12):
        _, points = synthetic_face("neutral", np.random.default_rng(seed), 112)
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_labels_in_any_known_spelling_and_no_other(rng: np.random.Generator) -> None:
    assert np.array_equal(
        synthetic_face("Happy", np.random.default_rng(1))[0], synthetic_face("happiness", np.random.default_rng(1))[0]
    )
    with pytest.raises(UnknownLabel):
        synthetic_face("boredom", rng)


def test_no_two_ways_of_two_expressions_are_alike() -> None:
    for one, other in combinations(EXPRESSIONS, 2):
        for way, rival in ((w, r) for w in SHAPES[one] for r in SHAPES[other]):
            differing = [name for name in way.__dataclass_fields__ if getattr(way, name) != getattr(rival, name)]
            assert len(differing) >= 4, (one, other, differing)


def test_strength_leads_from_rest_to_the_expression() -> None:
    faint = sample_shape("surprise", np.random.default_rng(0), strength=0.0)
    full = sample_shape("surprise", np.random.default_rng(0), strength=1.0)
    assert abs(faint.brow_inner) < 0.05 < full.brow_inner
    assert faint.open_lower < 0.05 < full.open_lower
    assert faint.lid_upper < full.lid_upper


def test_contempt_is_the_one_sided_expression() -> None:
    for way in SHAPES["contempt"]:
        assert way.corner_right > 0.1
    for label in EXPRESSIONS[:-1]:
        assert all(way.corner_right == 0 for way in SHAPES[label])


def test_one_person_keeps_skin_and_hair(rng: np.random.Generator) -> None:
    person = sample_person(rng)
    means = []
    for label in ("neutral", "anger", "fear"):
        pixels, landmarks = synthetic_face(label, rng, 112, person=person)
        x, y = landmarks[:3].mean(axis=0).astype(int)
        patch = pixels[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3).mean(axis=0)
        means.append(patch / patch.sum())
    # Light and camera change from image to image, so only the hue is compared.
    assert np.abs(np.diff(means, axis=0)).max() < 0.05


@pytest.mark.parametrize(("side_px", "head"), [(48, None), (112, None), (224, 0.55), (400, 0.5)])
def test_the_detector_finds_the_faces_at_their_landmarks(side_px: int, head: float | None) -> None:
    generator = np.random.default_rng(11)
    detector = RetinaFace(num_threads=1)
    found, errors = 0, []
    for label in EXPRESSIONS * 2:
        pixels, landmarks = synthetic_face(label, generator, side_px, head=head)
        faces = detector.detect(pixels)
        found += len(faces) > 0
        if faces:
            eyes = np.linalg.norm(landmarks[1] - landmarks[0])
            errors.append(np.linalg.norm(faces[0].landmarks - landmarks, axis=1) / eyes)
    assert found >= 15, f"{found} of 16 faces found"
    assert np.median(errors, axis=0).max() < 0.15


def _gradients(pixels: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Describe an aligned face by the strength of its edges in 8 directions on a 10x10 grid."""
    crop = align(pixels, landmarks, Alignment("arcface")).pixels
    gray = np.asarray(Image.fromarray(crop).convert("L").resize((40, 40)), dtype=np.float64)
    down, across = np.gradient((gray - gray.mean()) / (gray.std() + 1))
    strength, direction = np.hypot(across, down), (np.arctan2(down, across) % np.pi) / np.pi * 8
    cells = [(strength * (direction.astype(int) % 8 == d)).reshape(10, 4, 10, 4).sum(axis=(1, 3)) for d in range(8)]
    return np.sqrt(np.stack(cells)).ravel()


def test_the_expressions_can_be_told_apart_by_a_linear_rule(rng: np.random.Generator) -> None:
    def described(each: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        labels = np.tile(np.arange(8), each)
        return np.stack([_gradients(*synthetic_face(EXPRESSIONS[k], rng, 80)) for k in labels]), labels

    (seen, known), (unseen, truth) = described(12), described(4)
    middle = seen.mean(axis=0)
    # Ridge regression on one-hot targets in its dual form: fewer images than numbers per image.
    kernel = (seen - middle) @ (seen - middle).T
    weights = np.linalg.solve(kernel + 30.0 * np.eye(len(seen)), np.eye(8)[known] - 1 / 8)
    answers = ((unseen - middle) @ (seen - middle).T @ weights).argmax(axis=1)
    assert (answers == truth).mean() > 0.7
