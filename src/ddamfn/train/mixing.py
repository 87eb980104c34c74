"""Mixtures of two pictures and of their targets: mixup and cutmix, a batch at a time.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddamfn.train.config import Augment


class Batch(NamedTuple):
    """Pictures on their way to the network.

    Attributes:
        images: (B, C, S, S) float.
        targets: (B, K) float32, rows of which sum to 1.
        weights: (B,) float32, how much each picture counts in the loss; None where all count alike.
        uncovered: like `images`, before random erasing, for teachers; None where nobody asks for them.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor | None = None
    uncovered: Tensor | None = None


def mix(batch: Batch, config: Augment) -> Batch:
    """Mix every picture of a batch with another one of it, where the configuration asks for it.

    One share, from Beta(alpha, alpha), holds for the whole batch, as in both papers' programs; with mixup and cutmix
    both on, each batch takes one of them with equal chance. Chance is torch's global generator of the CPU, which
    `seed_step` sets before every batch: nothing here waits for the device.
    """
    if not (config.mixup or config.cutmix):
        return batch
    if batch.uncovered is not None:
        # As further channels of the same pictures they are mixed with the same others, in the same place.
        both = mix(batch._replace(images=torch.cat((batch.images, batch.uncovered), dim=1), uncovered=None), config)
        images, uncovered = both.images.chunk(2, dim=1)
        return both._replace(images=images, uncovered=uncovered)
    cut = config.cutmix > 0 and (not config.mixup or _uniform() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    others = torch.randperm(len(batch.images)).to(batch.images.device)
    if cut:
        images, share = _paste(batch.images, batch.images[others], share)
    else:
        images = torch.lerp(batch.images[others], batch.images, share)
    return Batch(images, *_mix_targets(batch, others, share))


def _mix_targets(batch: Batch, others: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
    """Targets and weights whose product is the same mixture of both pictures' products: the loss of both is kept."""
    if batch.weights is None:
        return torch.lerp(batch.targets[others], batch.targets, share), None
    weights = torch.lerp(batch.weights[others], batch.weights, share)
    weighed = batch.weights.unsqueeze(1) * batch.targets
    return torch.lerp(weighed[others], weighed, share) / weights.unsqueeze(1), weights


def _paste(images: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """Cover a rectangle of 1 - `share` of the area by the other pictures; return what is left of the share.

    The rectangle's centre lies anywhere, so a part of it can lie outside the picture.
    """
    height, width = images.shape[-2:]
    part = math.sqrt(1 - share)
    top, bottom = _range(height, part)
    left, right = _range(width, part)
    pasted = images.clone()
    pasted[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _range(length: int, part: float) -> tuple[int, int]:
    """First and one past the last of `part` of so many pixels, around a centre drawn evenly, inside the picture."""
    centre, half = int(_uniform() * length), round(length * part) // 2
    return max(0, centre - half), min(length, centre + half)


def _uniform() -> float:
    return float(torch.rand(()))
