"""How large and how costly a network is, by the two counts that papers print.

Source: torchstat 0.0.7 for the second count, with which the DDAMFN authors' table of parameters and FLOPs was made.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.Hardswish)


def count_parameters(network: nn.Module) -> int:
    """Count the learned numbers; running means and variances are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, input_size: tuple[int, int] = (112, 112)) -> int:
    """Count the multiply-accumulates of one picture in convolutions and linear layers, without their biases.

    Args:
        network: takes (B, 3, H, W); left as it was.
        input_size: (H, W) in pixels.

    Returns:
        MACs; a "GFLOPs" that means multiplications and additions apart is twice as large.
    """
    return _count(network, input_size, _macs)


def count_torchstat_flops(network: nn.Module, input_size: tuple[int, int] = (112, 112)) -> int:
    """Count as torchstat does, which is what the DDAMFN paper prints: 551.22 M for two heads and seven classes.

    To the MACs come one addition an output with a convolution's bias, two operations a number in 2-d batch
    normalisation, and one in ReLU and its kin (a hard swish counts as the ReLU6 inside it). Sigmoids, means, products
    and sums of whole maps, and 1-d batch normalisation count nothing.

    Args:
        network: takes (B, 3, H, W); left as it was.
        input_size: (H, W) in pixels.
    """
    return _count(network, input_size, _torchstat_flops)


def _macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    return output.numel() * module.in_features if isinstance(module, nn.Linear) else 0


def _torchstat_flops(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        return _macs(module, output) + output.numel()
    if isinstance(module, nn.BatchNorm2d):
        return 2 * output.numel()
    return output.numel() if isinstance(module, _ACTIVATIONS) else _macs(module, output)


def _count(network: nn.Module, input_size: tuple[int, int], rule: Callable[[nn.Module, Tensor], int]) -> int:
    """Sum a rule over every layer's output while one black picture passes, in evaluation mode."""
    total = 0

    def add(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += rule(module, output)

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    handles = [leaf.register_forward_hook(add) for leaf in leaves]
    modes = [(module, module.training) for module in network.modules()]
    weight = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, 3, *input_size, dtype=weight.dtype, device=weight.device))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return total
