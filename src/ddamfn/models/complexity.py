"""Parameters and computational cost of a network, by the two counts that papers print.

Source: torchstat 0.0.7 for the second count, with which the DDAMFN authors' table of parameters and FLOPs was made.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.Hardswish)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def count_parameters(network: nn.Module) -> int:
    """Count the learned parameters, without running means and variances."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, input_size: tuple[int, int] = (112, 112)) -> int:
    """Count the multiply-accumulates of one image in convolutions and matrix products, without biases.

    "GFLOPs" that count multiplications and additions separately are twice as large.
    """
    # torch's counter, unlike a sum over layers, sees the products of tokens with tokens, but not inside the CPU's fused
    # attention. It counts both operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _pass_one_image(network, input_size)
    return int(counter.get_total_flops()) // 2


def count_torchstat_flops(network: nn.Module, input_size: tuple[int, int] = (112, 112)) -> int:
    """Count as torchstat does, as the DDAMFN paper prints: 551.22 M for two heads and seven classes.

    To the MACs of layers come one addition per output of a convolution with bias, two operations per number in 2-d
    batch normalization, one in ReLU and its variants (a hard swish counts as the ReLU6 inside it), and one per
    number that a windowed pool reads. Sigmoids, means, products and sums of whole maps, products of tokens with
    tokens, and 1-d batch normalization count nothing.
    """
    total = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _torchstat_flops(module, inputs[0], output)

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    handles = [leaf.register_forward_hook(add) for leaf in leaves]
    try:
        _pass_one_image(network, input_size)
    finally:
        for handle in handles:
            handle.remove()
    return total


def _torchstat_flops(module: nn.Module, taken: Tensor, given: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        macs = given.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
        return macs if module.bias is None else macs + given.numel()
    if isinstance(module, nn.Linear):
        return given.numel() * module.in_features
    if isinstance(module, nn.BatchNorm2d):
        return 2 * given.numel()
    if isinstance(module, _POOLS):
        return taken.numel()
    return given.numel() if isinstance(module, _ACTIVATIONS) else 0


def _pass_one_image(network: nn.Module, input_size: tuple[int, int]) -> None:
    """Run a network on a black image in evaluation mode without gradients; its own mode is restored."""
    modes = [(module, module.training) for module in network.modules()]
    weight = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, 3, *input_size, dtype=weight.dtype, device=weight.device))
    finally:
        for module, training in modes:
            module.training = training
