"""Non-negative matrix factorization: a face as a sum of parts, none of which can be taken away again.

Source: Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", Nature 1999; for
expressions Zhi et al., "Graph-Preserving Sparse Nonnegative Matrix Factorization With Application to Facial Expression
Recognition", IEEE SMC-B 2011, of which this is the plain form that it is compared with.
"""

from sklearn.decomposition import NMF
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ddamfn.classic.pixels import GrayPixels


def create_nmf_svm(
    *, parts: int = 64, side_px: int = 28, penalty: float = 0.1, max_iter: int = 400, seed: int = 0
) -> Pipeline:
    """How much of each learned part a face holds, and a linear support vector machine on that; takes crops.

    New faces are coded by non-negative least squares on the parts that were learned.

    Args:
        parts: rank of the factorization; 25 to 100 is usual.
        side_px: side to which crops are shrunk.
        penalty: C of the machine.
        max_iter: most rounds of the factorization. It is given up there, so a warning may say that more were possible.
        seed: of the machine's order of images; the factorization starts from a singular value decomposition.
    """
    factorize = NMF(parts, init="nndsvda", max_iter=max_iter, random_state=seed)
    return make_pipeline(GrayPixels(side_px), factorize, StandardScaler(), LinearSVC(C=penalty, random_state=seed))
