"""Random changes to batches of training images: geometry, light, erasing, mixup and cutmix."""

import math
from typing import Any, NamedTuple

import kornia.augmentation as K
import numpy as np
import torch
from kornia.augmentation.random_generator import PlainUniformGenerator, RectangleEraseGenerator
from torch import Tensor, nn

from ddamfn.faces import Preprocessing, preprocess
from ddamfn.train.config import Augment

_UNCHANGED = (1.0, 1.0)
_PLAIN = Preprocessing()


class Augmenter(nn.Module):
    """Random changes to images in 0..1, (B, C, S, S) float -> same shape.

    It draws from torch's global generator, which `seed_step` sets before every batch.
    """

    def __init__(self, config: Augment, side_px: int, preprocessing: Preprocessing = _PLAIN) -> None:
        super().__init__()
        self.preprocessing = preprocessing if config.stretch else None
        changes = _changes(config, side_px)
        self.changes = K.AugmentationSequential(*changes, data_keys=["input"]) if changes else None
        self.erasing = _erasing(config) if config.erase else None

    def forward(self, images: Tensor) -> Tensor:
        """Change images, each in its own way; the result stays in 0..1."""
        return self.stages(images)[1]

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same images as they are before random erasing and after it, both in 0..1."""
        changed: Tensor = images if self.changes is None else self.changes(images).clamp(0, 1)
        if self.preprocessing is not None:
            changed = _preprocessed(changed, self.preprocessing)
        erased: Tensor = changed if self.erasing is None else self.erasing(changed)
        return changed, erased


def _preprocessed(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Round to gray levels, as a file does, and preprocess as prediction does."""
    levels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    channels = levels.shape[-1]
    if channels == 1:
        levels = np.repeat(levels, 3, axis=-1)
    pixels = torch.from_numpy(preprocess(levels, preprocessing)[..., :channels].copy())
    return pixels.permute(0, 3, 1, 2).to(images) / 255


def _changes(config: Augment, side_px: int) -> list[Any]:
    changes: list[Any] = []
    if config.flip:
        changes.append(K.RandomHorizontalFlip(p=config.flip))
    if config.affine:
        # Border pixels are repeated outside the image, as in alignment: no black corners that photographs lack.
        changes.append(
            K.RandomAffine(
                config.rotate_deg, (config.shift, config.shift), config.scale, padding_mode="border", p=config.affine
            )
        )
    if config.contrast != _UNCHANGED:
        changes.append(_Contrast(config.contrast))
    if config.brightness != _UNCHANGED:
        # Kornia's "contrast" multiplies the pixels; its "brightness" adds, which turns faces white.
        changes.append(K.RandomContrast(config.brightness, p=1.0))
    if config.gamma:
        changes.append(K.RandomGamma((1 - config.gamma, 1 + config.gamma), p=1.0))
    if config.blur:
        kernel = max(3, round(side_px * 0.06) | 1)
        changes.append(K.RandomGaussianBlur((kernel, kernel), (0.3, max(0.4, side_px * 0.02)), p=config.blur))
    if config.noise:
        changes.append(K.RandomGaussianNoise(std=6 / 255, p=config.noise))
    return changes


class _Contrast(K.IntensityAugmentationBase2D):
    """A random factor for the distances from each image's mean, which kornia has only together with colors."""

    def __init__(self, factors: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self._param_generator = PlainUniformGenerator((factors, "factor", None, None))

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        means = input.mean(dim=(1, 2, 3), keepdim=True)
        return torch.lerp(means, input, params["factor"].view(-1, 1, 1, 1).to(input)).clamp(0, 1)


def _erasing(config: Augment) -> K.RandomErasing:
    if config.erase_gray is None:
        return _ErasingInAnyGray(scale=config.erase_area, p=config.erase)
    return K.RandomErasing(scale=config.erase_area, value=config.erase_gray, p=config.erase)


class _AnyGray(RectangleEraseGenerator):
    def forward(self, batch_shape: tuple[int, ...], same_on_batch: bool = False) -> dict[str, Tensor]:
        drawn: dict[str, Tensor] = super().forward(batch_shape, same_on_batch)
        return drawn | {"values": torch.rand_like(drawn["values"])}


class _ErasingInAnyGray(K.RandomErasing):  # type: ignore[misc]  # kornia exports it untyped
    """Random erasing whose rectangles each have a gray level of their own; kornia's have one level for all."""

    def __init__(self, scale: tuple[float, float], p: float) -> None:
        super().__init__(scale=scale, p=p)
        self._param_generator = _AnyGray(self.scale, self.ratio)


def to_input(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Make images (B, 1 or 3, S, S) in 0..1 the network's normalized input: (B, 3, S, S) float32, channels last."""
    means = images.new_tensor(mean).view(1, 3, 1, 1)
    stds = images.new_tensor(std).view(1, 3, 1, 1)
    return ((images - means) / stds).float().contiguous(memory_format=torch.channels_last)


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Seed torch from the place in the run alone, so that a resumed run draws what the uninterrupted one drew."""
    torch.manual_seed((seed * 1_000_003 + epoch) * 1_000_003 + step)


class Batch(NamedTuple):
    """Images (B, C, S, S) on their way to the network."""

    images: Tensor
    targets: Tensor  # (B, K) float32, rows sum to 1
    weights: Tensor | None = None  # (B,) float32 in the loss; None where all count alike
    unerased: Tensor | None = None  # `images` before random erasing, for teachers that need them


def mix(batch: Batch, config: Augment) -> Batch:
    """Mix every image of a batch with another one of it, where the configuration asks for it.

    One share, from Beta(alpha, alpha), holds for the whole batch, as in both papers' programs. The draws are from the
    CPU's global generator, which `seed_step` sets before every batch: nothing here waits for the device.
    """
    if not (config.mixup or config.cutmix):
        return batch
    if batch.unerased is not None:
        # As further channels of the same images they are mixed with the same others, in the same place.
        both = mix(batch._replace(images=torch.cat((batch.images, batch.unerased), dim=1), unerased=None), config)
        images, unerased = both.images.chunk(2, dim=1)
        return both._replace(images=images, unerased=unerased)
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
    """Targets and weights whose product is the same mixture of both images' products: the loss of both is kept."""
    if batch.weights is None:
        return torch.lerp(batch.targets[others], batch.targets, share), None
    weights = torch.lerp(batch.weights[others], batch.weights, share)
    weighed = batch.weights.unsqueeze(1) * batch.targets
    return torch.lerp(weighed[others], weighed, share) / weights.unsqueeze(1), weights


def _paste(images: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """Cover a rectangle of 1 - `share` of the area by the other images; return what is left of the share.

    The rectangle's center lies anywhere, so a part of it can lie outside the image.
    """
    height, width = images.shape[-2:]
    part = math.sqrt(1 - share)
    top, bottom = _range(height, part)
    left, right = _range(width, part)
    pasted = images.clone()
    pasted[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _range(length: int, part: float) -> tuple[int, int]:
    """First and one past the last of `part` of so many pixels, around a center drawn evenly, inside the image."""
    center, half = int(_uniform() * length), round(length * part) // 2
    return max(0, center - half), min(length, center + half)


def _uniform() -> float:
    return float(torch.rand(()))
