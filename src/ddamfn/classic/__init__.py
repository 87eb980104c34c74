"""Methods from before deep learning: scikit-learn estimators of face crops. Needs `pip install "ddamfn[classic]"`."""

from importlib.util import find_spec

from ddamfn.errors import MissingExtra

for _package, _module in (("scikit-image", "skimage"), ("scikit-learn", "sklearn")):
    if find_spec(_module) is None:
        raise MissingExtra("classic", _package, "ddamfn.classic")

from ddamfn.classic.features import GrayPixels, LBPHistograms  # noqa: E402
from ddamfn.classic.methods import (  # noqa: E402
    SparseRepresentationClassifier,
    create_lbp_svm,
    create_nmf_svm,
    create_sparse_classifier,
)

__all__ = [
    "GrayPixels",
    "LBPHistograms",
    "SparseRepresentationClassifier",
    "create_lbp_svm",
    "create_nmf_svm",
    "create_sparse_classifier",
]
