"""Networks. Needs PyTorch (`pip install "ddamfn[train]"`) and knows nothing else of this package."""

# Importing a network's file registers it.
from ddamfn.models import ddamfn, mobilefacenet, resnet  # noqa: F401
from ddamfn.models.baselines import dacl, dan, mvit, poster, psr, ran, scn, transfer  # noqa: F401
from ddamfn.models.registry import (
    ModelOutput,
    Network,
    create_network,
    gives_class_maps,
    list_models,
    register_model,
)

__all__ = ["ModelOutput", "Network", "create_network", "gives_class_maps", "list_models", "register_model"]
