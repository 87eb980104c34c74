"""The methods before deep learning, on synthetic faces and against their definitions."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="needs scikit-image")
pytest.importorskip("sklearn", reason="needs scikit-learn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from ddamfn.classic import (
    GrayPixels,
    LBPHistograms,
    SparseRepresentationClassifier,
    create_lbp_svm,
    create_nmf_svm,
    create_sparse_classifier,
)
from ddamfn.faces import Alignment, align
from ddamfn.synthetic import synthetic_face

LABELS = ("happiness", "sadness", "surprise")
TRAIN, TEST = 14, 6

Faces = tuple[NDArray[np.uint8], NDArray[np.str_]]


def _faces(count: int, seed: int) -> Faces:
    """Aligned, as crops are: without that these methods see where the face is, not what it does."""
    generator, alignment = np.random.default_rng(seed), Alignment("arcface", side_px=56)
    labels = np.array([label for label in LABELS for _ in range(count)])
    drawn = [synthetic_face(str(label), generator, side_px=56) for label in labels]
    return np.stack([align(image, landmarks, alignment).pixels for image, landmarks in drawn]), labels


@pytest.fixture(scope="module")
def train() -> Faces:
    return _faces(TRAIN, seed=1)


@pytest.fixture(scope="module")
def test() -> Faces:
    return _faces(TEST, seed=2)


ESTIMATORS = {
    "lbp": create_lbp_svm(),
    "nmf": create_nmf_svm(parts=16),
    "sparse": create_sparse_classifier(),
    "dictionary": create_sparse_classifier(atoms_per_class=8),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_drawn_faces_are_told_apart(name: str, train: Faces, test: Faces) -> None:
    """Chance gives a third; drawings vary in light, skin, hair and noise."""
    estimator = clone(ESTIMATORS[name]).fit(*train)
    assert isinstance(estimator, Pipeline)
    predicted = estimator.predict(test[0])
    assert predicted.shape == test[1].shape
    assert float(np.mean(predicted == test[1])) >= 0.65
    assert list(estimator.classes_) == sorted(LABELS)
    again = clone(ESTIMATORS[name]).fit(*train)
    assert np.array_equal(again.decision_function(test[0]), estimator.decision_function(test[0]))
    assert estimator.decision_function(test[0]).shape == (len(test[1]), len(LABELS))


def test_settings_can_be_searched(train: Faces) -> None:
    search = GridSearchCV(create_sparse_classifier(), {"sparserepresentationclassifier__max_atoms": [1, 8]}, cv=2)
    search.fit(*train)
    assert search.best_params_["sparserepresentationclassifier__max_atoms"] in (1, 8)


# ---------------------------------------------------------------- pixels


def test_gray_pixels_are_luma_and_shrunk() -> None:
    colors = np.zeros((2, 8, 8, 3), np.uint8)
    colors[0, ..., 0], colors[1] = 255, 100
    rows = GrayPixels(4).fit_transform(colors)
    assert rows.shape == (2, 16)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0], 0.299, atol=1e-4)
    np.testing.assert_allclose(rows[1], 100 / 255, atol=1e-4)
    unit = GrayPixels(4, unit_length=True).fit_transform(colors)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    assert not GrayPixels(4, unit_length=True).fit_transform(np.zeros((1, 8, 8), np.uint8)).any()


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8, 1), (2, 8, 8, 3, 1)])
def test_what_is_no_crop_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"crops are uint8 \(N, H, W\)"):
        LBPHistograms().transform(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="not float32"):
        GrayPixels().transform(np.zeros((2, 8, 8), np.float32))


# ---------------------------------------------------------------- LBP


def test_histograms_have_the_published_size() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 150, 110), dtype=np.uint8)
    histograms = LBPHistograms().fit_transform(crops)
    assert histograms.shape == (2, 2478)
    np.testing.assert_allclose(histograms.reshape(2, 42, 59).sum(axis=2), 1, rtol=1e-5)


def test_an_even_face_has_one_pattern() -> None:
    """All neighbors are as bright as the middle: the pattern of eight ones, the last uniform one."""
    histogram = LBPHistograms(1, 1).fit_transform(np.full((1, 20, 20), 90, np.uint8))[0]
    assert np.count_nonzero(histogram) == 1
    assert histogram.max() == 1


def test_patterns_do_not_depend_on_the_light() -> None:
    crops = np.random.default_rng(0).integers(0, 120, (1, 30, 30), dtype=np.uint8)
    plain, brighter = LBPHistograms(2, 2).transform(crops), LBPHistograms(2, 2).transform(2 * crops + 10)
    np.testing.assert_allclose(plain, brighter, atol=0.01)


def test_cells_keep_their_place() -> None:
    crops = np.full((1, 40, 40), 90, np.uint8)
    crops[0, :20, :20] = np.random.default_rng(0).integers(0, 256, (20, 20))
    cells = LBPHistograms(2, 2).transform(crops).reshape(4, 59)
    assert np.count_nonzero(cells[0]) > 20
    assert np.count_nonzero(cells[3]) == 1


# ---------------------------------------------------------------- sparse representation


def test_a_row_belongs_to_the_class_that_explains_it() -> None:
    generator = np.random.default_rng(4)
    bases = [generator.normal(size=(2, 30)) for _ in range(3)]
    rows = np.concatenate([generator.normal(size=(10, 2)) @ base for base in bases])
    labels = np.repeat([5, 7, 9], 10)
    classifier = SparseRepresentationClassifier(max_atoms=2).fit(rows, labels)
    fresh = np.concatenate([generator.normal(size=(5, 2)) @ base for base in bases])
    assert classifier.predict(fresh).tolist() == [5] * 5 + [7] * 5 + [9] * 5
    residuals = -classifier.decision_function(fresh)
    # Nearly nothing is left by the own class, and all of it by the others, which no atom was taken from.
    assert residuals.min(axis=1).max() < 0.1
    assert np.sort(residuals, axis=1)[:, 1].min() > 0.9
    np.testing.assert_allclose(np.linalg.norm(classifier.atoms_, axis=1), 1)


def test_atoms_are_learned_class_by_class(train: Faces) -> None:
    rows = GrayPixels(12).fit_transform(train[0])
    classifier = SparseRepresentationClassifier(atoms_per_class=5).fit(rows, train[1])
    assert classifier.atoms_.shape == (15, 144)
    assert classifier.owners_.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    whole = SparseRepresentationClassifier(atoms_per_class=50).fit(rows, train[1])
    assert len(whole.atoms_) == len(rows)


def test_two_classes_have_one_score() -> None:
    rows = np.eye(4)[[0, 0, 1, 1]] + 0.01
    classifier = SparseRepresentationClassifier(max_atoms=1).fit(rows, ["a", "a", "b", "b"])
    assert classifier.decision_function(rows).shape == (4,)
    assert classifier.predict(rows).tolist() == ["a", "a", "b", "b"]
    with pytest.raises(ValueError, match="at least 2, there is 1 class"):
        SparseRepresentationClassifier().fit(rows, ["a"] * 4)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(("module", "package"), [("skimage", "scikit-image"), ("sklearn", "scikit-learn")])
def test_a_missing_library_is_named(module: str, package: str) -> None:
    code = (
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)\n"
        "from ddamfn.errors import MissingExtra\n"
        "try:\n    import ddamfn.classic\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f'ddamfn.classic needs {package}: pip install "ddamfn[classic]"'
