"""A data set's images to aligned crops on disk, the same way that prediction aligns a face. No PyTorch."""

from ddamfn.preparation.cached import open_prepared
from ddamfn.preparation.prepared import Crops, Prepared, PreparedSplit, load_prepared
from ddamfn.preparation.preparing import fingerprint, prepare

__all__ = ["Crops", "Prepared", "PreparedSplit", "fingerprint", "load_prepared", "open_prepared", "prepare"]
