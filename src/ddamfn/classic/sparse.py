"""Sparse representation: a face as a sum of few known faces; its class is the one whose share comes nearest to it.

Source: Wright et al., "Robust Face Recognition via Sparse Representation", PAMI 2009, algorithm 1; with learned atoms
in place of the images themselves: Yang et al., "Metaface learning for sparse representation based face recognition",
ICIP 2010.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from ddamfn.classic.pixels import GrayPixels


class SparseRepresentationClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Code a row over all classes' atoms, few at a time, and compare what each class leaves unexplained.

    After `fit`, `atoms_` float64 (M, D) are the rows of the dictionary, of unit length, and `owners_` (M,) the number
    of the class of each.

    Args:
        atoms_per_class: how many are learned for each class; None takes the training rows themselves.
        max_atoms: most atoms that explain one row (orthogonal matching pursuit).
        seed: of the learning of atoms.
    """

    def __init__(self, atoms_per_class: int | None = None, *, max_atoms: int = 20, seed: int = 0) -> None:
        self.atoms_per_class = atoms_per_class
        self.max_atoms = max_atoms
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Gather or learn each class's atoms from rows (N, D) with labels (N,).

        Raises:
            ValueError: if there are fewer than two classes.
        """
        rows, labels = validate_data(self, X, y, dtype=np.float64)
        self.classes_ = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError("SparseRepresentationClassifier compares classes: it needs at least 2, there is 1 class")
        atoms = [self._atoms(_unit(rows[labels == name])) for name in self.classes_]
        self.atoms_ = np.concatenate(atoms)
        self.owners_ = np.repeat(np.arange(len(atoms)), [len(part) for part in atoms])
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Minus each class's residual of rows of unit length, (N, K); (N,) of the second less the first for two."""
        check_is_fitted(self)
        rows = _unit(validate_data(self, X, dtype=np.float64, reset=False))
        scores = -self._residuals(rows)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Labels (N,) of rows (N, D)."""
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
        most = min(self.max_atoms, len(self.atoms_), rows.shape[1])
        codes = sparse_encode(rows, self.atoms_, algorithm="omp", n_nonzero_coefs=most)
        shares = [codes * (self.owners_ == number) @ self.atoms_ for number in range(len(self.classes_))]
        return np.stack([np.linalg.norm(rows - share, axis=1) for share in shares], axis=1)


def create_sparse_classifier(
    *, atoms_per_class: int | None = None, side_px: int = 28, max_atoms: int = 20, seed: int = 0
) -> Pipeline:
    """Gray levels of unit length and a sparse-representation classifier on them; takes crops.

    Args:
        atoms_per_class: see `SparseRepresentationClassifier`; with many thousand images, learn some hundred.
        side_px: side to which crops are shrunk.
        max_atoms: most atoms that explain one face.
        seed: of the learning of atoms.
    """
    classifier = SparseRepresentationClassifier(atoms_per_class, max_atoms=max_atoms, seed=seed)
    return make_pipeline(GrayPixels(side_px, unit_length=True), classifier)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their lengths; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit
