"""Grad-CAM: where the features of a class lie, by the gradient of its logit. Needs PyTorch and captum.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from ddamfn.errors import WeightsError
from ddamfn.models import ModelOutput
from ddamfn.models.layers import fit_map


def grad_cam(network: nn.Module, inputs: NDArray[np.float32], targets: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return a map (h, w) per target column of the logits for one face (1, 3, S, S); 0 means no class support."""
    images = torch.from_numpy(inputs).requires_grad_()
    explainer = LayerGradCam(lambda batch: network(batch).logits, feature_layer(network, images))
    maps = []
    for target in targets:
        attributed = explainer.attribute(images, target=target, relu_attributions=True)
        assert isinstance(attributed, Tensor)
        maps.append(attributed[0, 0].detach().numpy().astype(np.float32))
    return maps


def feature_layer(network: nn.Module, images: Tensor) -> nn.Module:
    """Find the module whose output is `features`, by one run of images (B, 3, S, S); its name differs per network.

    Of images smaller than the network was made for, it is the module whose output is resampled to `features`.
    """
    seen: list[tuple[nn.Module, object]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, output: seen.append((module, output)))
        for module in network.modules()
    ]
    try:
        with torch.no_grad():
            output = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    assert isinstance(output, ModelOutput)
    calls = Counter(id(module) for module, _ in seen)
    # A module that is called more than once, such as a shared ReLU, gives other maps as well.
    found = next((m for m, given in seen if calls[id(m)] == 1 and _becomes(given, output.features)), None)
    if found is None:
        raise WeightsError("no module of this network gives its spatial features, so there is no layer for Grad-CAM")
    return found


def _becomes(given: object, features: Tensor) -> bool:
    if given is features:
        return True
    if not isinstance(given, Tensor) or given.dim() != 4 or given.shape[:2] != features.shape[:2]:
        return False
    side = features.shape[-1]
    return given.shape[-2:] != (side, side) and torch.equal(fit_map(given, side), features)
