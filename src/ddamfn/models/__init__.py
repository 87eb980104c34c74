"""Networks. Needs PyTorch (`pip install "ddamfn[train]"`) and knows nothing else of this package."""

from ddamfn.models import ddamfn as _ddamfn
from ddamfn.models import mfn as _mfn
from ddamfn.models.output import ModelOutput
from ddamfn.models.registry import Network, create_model, list_models, register_model

# Importing a network's file registers it; the names are kept so that the imports are not taken for unused.
_REGISTERED = (_ddamfn, _mfn)

__all__ = ["ModelOutput", "Network", "create_model", "list_models", "register_model"]
