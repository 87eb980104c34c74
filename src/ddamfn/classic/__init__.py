"""The methods before deep learning, as scikit-learn estimators of face crops. Needs `pip install "ddamfn[classic]"`."""

from importlib.util import find_spec

from ddamfn.errors import MissingExtra

for _package, _module in (("scikit-image", "skimage"), ("scikit-learn", "sklearn")):
    if find_spec(_module) is None:
        raise MissingExtra("classic", _package, "ddamfn.classic")

from ddamfn.classic.lbp import LBPHistograms, create_lbp_svm  # noqa: E402
from ddamfn.classic.nmf import create_nmf_svm  # noqa: E402
from ddamfn.classic.pixels import GrayPixels  # noqa: E402
from ddamfn.classic.sparse import SparseRepresentationClassifier, create_sparse_classifier  # noqa: E402

__all__ = [
    "GrayPixels",
    "LBPHistograms",
    "SparseRepresentationClassifier",
    "create_lbp_svm",
    "create_nmf_svm",
    "create_sparse_classifier",
]
