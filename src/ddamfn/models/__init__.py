"""Networks. Needs PyTorch (`pip install "ddamfn[train]"`) and knows nothing else of this package."""

from ddamfn.models import ddamfn as _ddamfn
from ddamfn.models import mobilefacenet as _mobilefacenet
from ddamfn.models import resnet as _resnet
from ddamfn.models.baselines import dacl as _dacl
from ddamfn.models.baselines import dan as _dan
from ddamfn.models.baselines import mvit as _mvit
from ddamfn.models.baselines import poster as _poster
from ddamfn.models.baselines import psr as _psr
from ddamfn.models.baselines import ran as _ran
from ddamfn.models.baselines import scn as _scn
from ddamfn.models.baselines import transfer as _transfer
from ddamfn.models.output import ModelOutput
from ddamfn.models.registry import Network, create_model, gives_class_maps, list_models, register_model

# Importing a network's file registers it; the names are kept so that the imports are not taken for unused.
_REGISTERED = (
    _dacl, _dan, _ddamfn, _resnet, _mobilefacenet, _mvit, _poster, _psr, _ran, _scn, _transfer,
)  # fmt: skip

__all__ = ["ModelOutput", "Network", "create_model", "gives_class_maps", "list_models", "register_model"]
