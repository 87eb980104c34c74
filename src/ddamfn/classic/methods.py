"""The three classic methods, each a scikit-learn pipeline that takes face crops."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import NMF, MiniBatchDictionaryLearning, sparse_encode
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from ddamfn.classic.features import GrayPixels, LBPHistograms


def create_lbp_svm(*, penalty: float = 10.0, gamma: float | str = "scale") -> Pipeline:
    """Local binary patterns in 6 x 7 cells, and a support vector machine with a radial kernel.

    Source: Shan, Gong and McOwan, "Facial expression recognition based on Local Binary Patterns: A comprehensive
    study", Image and Vision Computing 2009, sections 3 and 4.2.
    """
    return make_pipeline(LBPHistograms(), StandardScaler(), SVC(C=penalty, gamma=gamma))


def create_nmf_svm(
    *, parts: int = 64, side_px: int = 28, penalty: float = 0.1, max_iter: int = 400, seed: int = 0
) -> Pipeline:
    """Non-negative matrix factorization of gray levels, and a linear support vector machine on the coefficients.

    `parts` is the rank, usually 25 to 100; `seed` only orders the machine's images; the factorization needs none.

    Source: Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", Nature 1999; for
    expressions Zhi et al., IEEE SMC-B 2011, whose baseline this is.
    """
    factorize = NMF(parts, init="nndsvda", max_iter=max_iter, random_state=seed)
    return make_pipeline(GrayPixels(side_px), factorize, StandardScaler(), LinearSVC(C=penalty, random_state=seed))


def create_sparse_classifier(
    *, atoms_per_class: int | None = None, side_px: int = 28, max_atoms: int = 20, seed: int = 0
) -> Pipeline:
    """Gray levels of unit length and a `SparseRepresentationClassifier`.

    With many thousand images, learn some hundred atoms per class.
    """
    classifier = SparseRepresentationClassifier(atoms_per_class, max_atoms=max_atoms, seed=seed)
    return make_pipeline(GrayPixels(side_px, unit_length=True), classifier)


class SparseRepresentationClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Encode a row sparsely over the atoms of all classes, and predict the class with the smallest residual.

    `atoms_per_class` None takes the training rows themselves; `max_atoms` limits the orthogonal matching pursuit. After
    `fit`, `atoms_` float64 (M, D) are the unit-length rows of the dictionary, and `owners_` (M,) their classes.

    Source: Wright et al., "Robust Face Recognition via Sparse Representation", PAMI 2009, algorithm 1; learned atoms:
    Yang et al., "Metaface learning for sparse representation based face recognition", ICIP 2010.
    """

    def __init__(self, atoms_per_class: int | None = None, *, max_atoms: int = 20, seed: int = 0) -> None:
        self.atoms_per_class = atoms_per_class
        self.max_atoms = max_atoms
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Take or learn each class's atoms from rows (N, D) with labels (N,)."""
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        self.classes_ = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError("SparseRepresentationClassifier compares classes: it needs at least 2, there is 1 class")
        atoms = [self._atoms(_unit(rows[labels == name])) for name in self.classes_]
        self.atoms_ = np.concatenate(atoms)
        self.owners_ = np.repeat(np.arange(len(atoms)), [len(part) for part in atoms])
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative residuals (N, K) of unit-length rows; for two classes (N,), second minus first."""
        check_is_fitted(self)
        rows = _unit(validate_data(self, X, dtype=np.float64, reset=False))
        scores = -self._residuals(rows)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Return the labels (N,) of rows (N, D)."""
        scores = self.decision_function(X)
        numbers = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: NDArray[np.generic] = self.classes_[numbers]
        return labels

    def _atoms(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.atoms_per_class is None or self.atoms_per_class >= len(rows):
            return rows
        learning = MiniBatchDictionaryLearning(self.atoms_per_class, random_state=self.seed)
        return _unit(learning.fit(rows).components_)

    def _residuals(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        nonzero = min(self.max_atoms, len(self.atoms_), rows.shape[1])
        codes = sparse_encode(rows, self.atoms_, algorithm="omp", n_nonzero_coefs=nonzero)
        shares = [codes * (self.owners_ == number) @ self.atoms_ for number in range(len(self.classes_))]
        return np.stack([np.linalg.norm(rows - share, axis=1) for share in shares], axis=1)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows divided by their norms; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit
