"""One training step, and one pass over a split to validate."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddamfn.models import ModelOutput
from ddamfn.objectives import Context, Criterion, Loss, head_means
from ddamfn.train.augment import to_input
from ddamfn.train.config import Data
from ddamfn.train.tensorset import TensorSplit


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 where the matrix units make it faster (CUDA); float32 elsewhere.

    Measured on two CPU cores: bfloat16 is slower there than float32 in channels-last order (88 against 112 images/s
    at 48 px), because the depthwise convolutions gain nothing and the casts cost.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def train_step(
    network: Callable[..., ModelOutput],
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    context: Context,
    clip_norm: float | None,
) -> dict[str, Tensor]:
    """Update the weights once, from normalized images (B, 3, S, S) and targets (B, K).

    Returns float32 scalars on the device, to be summed over steps: "loss" and every part of it times B, "num_correct"
    (missing if the criterion counts none), "n" (B). Nothing here waits for the device.
    """
    optimizer.zero_grad(set_to_none=True)
    output, loss = _backward(network, criterion, images, targets, context)
    sharpness_aware = hasattr(optimizer, "first_step")
    if sharpness_aware:
        optimizer.first_step(zero_grad=True)  # type: ignore[attr-defined]
        _backward(network, criterion, images, targets, context)
    if clip_norm is not None:
        # SAM's first step has a length of its own, whatever the gradient's; only the second needs a limit.
        nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), clip_norm)
    if sharpness_aware:
        optimizer.second_step(zero_grad=True)  # type: ignore[attr-defined]
    else:
        optimizer.step()
    output = output.detach()
    criterion.after_step(output, targets, context)
    num_correct, size = criterion.num_correct(output, targets), len(targets)
    sums = {name: part.float() * size for name, part in {"loss": loss.total.detach(), **loss.parts}.items()}
    counted = {} if num_correct is None else {"num_correct": num_correct.float()}
    return {**sums, **counted, "n": loss.total.new_tensor(float(size))}


def _backward(
    network: Callable[..., ModelOutput], criterion: Criterion, images: Tensor, targets: Tensor, context: Context
) -> tuple[ModelOutput, Loss]:
    with mixed_precision(images.device):
        output = _with_mirror_images(network, images) if criterion.mirrored else network(images)
    loss = criterion(output, targets, context)
    loss.total.backward()
    return output, loss


def _with_mirror_images(network: Callable[..., ModelOutput], images: Tensor) -> ModelOutput:
    """Return the output for the images, with the class maps of their mirror images beside their own.

    Both pass at once, so that batch normalization takes them for one batch.
    """
    both: ModelOutput = network(torch.cat([images, images.flip(3)]), class_maps=True)
    maps, mirrored = both.extra["class_maps"].chunk(2)
    size = len(images)
    return ModelOutput(
        both.logits[:size],
        both.features[:size],
        both.attention[:size],
        {"class_maps": maps, "mirrored_class_maps": mirrored},
    )


@dataclass(frozen=True)
class SplitOutputs:
    """A network's outputs for a whole split.

    A `max_attention_mean` near 1 means that attention is switched off, also where every head has a mean of a half.
    """

    logits: Tensor  # (N, K) float32 on the CPU
    head_means: list[float]  # A numbers in (0, 1)
    head_difference: float  # mean squared difference over all pairs of heads; 0 with fewer than two
    max_attention_mean: float  # mean of the heads' maximum, which weighs the features; 0 without heads


@torch.no_grad()
def evaluate_split(network: nn.Module, split: TensorSplit, data: Data, batch_size: int) -> SplitOutputs:
    """Run a network in evaluation mode over a split, on bit for bit the input that prediction makes of its crops."""
    network.eval()
    logits, means, differences, maxima, sizes = [], [], [], [], []
    for images in split.images.split(batch_size):
        with mixed_precision(images.device):
            # float64, as in prediction's table of gray levels, so that both round once and alike.
            output: ModelOutput = network(to_input(images.double() / 255, data.mean, data.std))
        logits.append(output.logits.float())
        means.append(head_means(output.attention))
        heads = output.attention.float()
        differences.append(_mean_pair_difference(heads))
        maxima.append(heads.amax(dim=1).mean() if heads.shape[1] > 0 else heads.new_zeros(()))
        sizes.append(len(images))
    weights = torch.tensor(sizes, dtype=torch.float32) / sum(sizes)
    mean = (torch.stack(means).cpu() * weights[:, None]).sum(dim=0)
    difference, maximum = ((torch.stack(values).cpu() * weights).sum() for values in (differences, maxima))
    return SplitOutputs(torch.cat(logits).cpu(), mean.tolist(), float(difference), float(maximum))


def _mean_pair_difference(heads: Tensor) -> Tensor:
    """The mean squared difference over all pairs of heads (B, A, C, H, W), which is twice their variance."""
    number = heads.shape[1]
    if number < 2:
        return heads.new_zeros(())
    # Not torch's `var`, which takes 20 times as long over so short a dimension.
    return (heads - heads.mean(dim=1, keepdim=True)).square().mean() * (2 * number / (number - 1))
