"""Each change does what its name says, alone and with a fixed seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddamfn.faces import Preprocessing, Stretch, normalize, preprocess
from ddamfn.train import Augment, recipe
from ddamfn.train.augment import Augmenter, seed_step, to_input

SIDE_PX = 48
NOTHING = Augment(flip=0.0)


def sample_images(count: int = 8, channels: int = 3) -> Tensor:
    """Images without any symmetry, values 0.2 to 0.8: a bright corner on a slope, noise on top."""
    generator = torch.Generator().manual_seed(4)
    slope = torch.linspace(0.2, 0.6, SIDE_PX).expand(SIDE_PX, SIDE_PX)
    images = slope + 0.1 * torch.rand(count, channels, SIDE_PX, SIDE_PX, generator=generator)
    images[..., 4:14, 4:20] += 0.1
    return images


def changed(images: Tensor, seed: int = 0, **fields: Any) -> Tensor:
    seed_step(seed, 0, 0)
    result: Tensor = Augmenter(replace(NOTHING, **fields), SIDE_PX)(images)
    return result


def test_nothing_asked_is_nothing_done() -> None:
    images = sample_images()
    assert torch.equal(changed(images), images)


def test_flip_mirrors_left_and_right() -> None:
    images = sample_images()
    assert torch.equal(changed(images, flip=1.0), images.flip(-1))
    half = changed(sample_images(64), flip=0.5)
    mirrored = (half == sample_images(64).flip(-1)).flatten(1).all(dim=1)
    kept = (half == sample_images(64)).flatten(1).all(dim=1)
    assert torch.equal(mirrored, ~kept)
    assert 20 <= int(mirrored.sum()) <= 44


def center(images: Tensor) -> Tensor:
    """Center of a bright spot on black, (B, 2) as (x, y) pixels."""
    weight = images[:, 0]
    place = torch.arange(SIDE_PX, dtype=torch.float32)
    total = weight.sum(dim=(1, 2))
    return torch.stack([(weight.sum(dim=1) @ place) / total, (weight.sum(dim=2) @ place) / total], dim=1)


def spot(x: int, y: int, count: int = 128) -> Tensor:
    images = torch.zeros(count, 1, SIDE_PX, SIDE_PX)
    images[..., y - 2 : y + 3, x - 2 : x + 3] = 1
    return images


def test_shift_moves_at_most_so_far_and_both_ways() -> None:
    moved = center(changed(spot(24, 24), affine=1.0, shift=0.1)) - 24
    assert 3 < moved.abs().max() <= 0.1 * SIDE_PX + 0.1
    assert (moved > 1).any(dim=0).all()
    assert (moved < -1).any(dim=0).all()


def test_rotation_turns_about_the_middle_by_at_most_so_much() -> None:
    middle = (SIDE_PX - 1) / 2
    before = center(spot(40, 24, 1)) - middle
    after = center(changed(spot(40, 24), affine=1.0, rotate_deg=20)) - middle
    turned = torch.rad2deg(torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0]))
    assert 17 < turned.abs().max() <= 20.5
    assert turned.min() < -10
    assert turned.max() > 10
    assert torch.allclose(after.norm(dim=1), before.norm(dim=1), atol=0.2)


def test_scale_enlarges_about_the_middle() -> None:
    middle = (SIDE_PX - 1) / 2
    before = (center(spot(36, 24, 1)) - middle).norm()
    after = (center(changed(spot(36, 24), affine=1.0, scale=(0.8, 1.25))) - middle).norm(dim=1)
    factor = after / before
    assert 0.78 < factor.min() < 0.9
    assert 1.15 < factor.max() < 1.27


def test_affine_repeats_the_border_instead_of_making_it_black() -> None:
    images = torch.full((32, 3, SIDE_PX, SIDE_PX), 0.6)
    assert torch.allclose(changed(images, affine=1.0, shift=0.3, rotate_deg=45, scale=(0.5, 1.0)), images, atol=1e-5)


def test_affine_changes_only_its_share() -> None:
    images = sample_images(64)
    same = (changed(images, affine=0.25, shift=0.2) == images).flatten(1).all(dim=1)
    assert 36 <= int(same.sum()) <= 60


def test_brightness_multiplies_each_image_by_one_factor() -> None:
    images = 0.5 * sample_images(64)
    factors = (changed(images, brightness=(0.7, 1.3)) / images).flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), atol=1e-4)
    assert 0.7 - 1e-4 <= factors.min() < 0.8
    assert 1.2 < factors.max() <= 1.3 + 1e-4


def test_contrast_multiplies_the_distance_from_each_mean() -> None:
    images = 0.4 + 0.2 * sample_images(64)
    result, means = changed(images, contrast=(0.3, 1.5)), images.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(result.mean(dim=(1, 2, 3), keepdim=True), means, atol=1e-5)
    factors = (result - means).flatten(1).norm(dim=1) / (images - means).flatten(1).norm(dim=1)
    assert 0.3 - 1e-4 <= factors.min() < 0.45
    assert 1.35 < factors.max() <= 1.5 + 1e-4


def test_what_became_dark_is_stretched_as_prediction_does() -> None:
    images, preprocessing = sample_images(8), Preprocessing("gray", stretch=Stretch())
    dark = Augmenter(replace(NOTHING, brightness=(0.1, 0.1), stretch=True), SIDE_PX, preprocessing)(images[:, :1])
    levels = (images[:, :1] * 0.1 * 255).round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    expected = torch.from_numpy(preprocess(levels, preprocessing)[..., :1].copy()).permute(0, 3, 1, 2)
    assert torch.equal((dark * 255).round().byte(), expected)
    assert dark.amax() - dark.amin() > 0.4


def test_gamma_raises_each_image_to_one_power() -> None:
    images = sample_images(64)
    powers = (changed(images, gamma=0.3).log() / images.log()).flatten(1)
    assert torch.allclose(powers, powers[:, :1].expand_as(powers), atol=1e-3)
    assert 0.7 - 1e-3 <= powers.min() < 0.8
    assert 1.2 < powers.max() <= 1.3 + 1e-3


def roughness(images: Tensor) -> Tensor:
    return images.diff(dim=-1).square().mean(dim=(1, 2, 3))


def test_blur_smooths_and_keeps_the_mean() -> None:
    images = sample_images()
    blurred = changed(images, blur=1.0)
    # The weakest blur, of a third of a pixel, is hardly one.
    ratio = roughness(blurred) / roughness(images)
    assert ratio.max() < 0.95
    assert ratio.min() < 0.3
    assert torch.allclose(blurred.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.01)


def test_noise_has_its_deviation() -> None:
    images = torch.full((8, 3, SIDE_PX, SIDE_PX), 0.5)
    noise = changed(images, noise=1.0) - images
    assert abs(float(noise.std()) - 6 / 255) < 1e-3
    assert abs(float(noise.mean())) < 1e-3


def test_erasing_covers_a_rectangle_of_that_area_with_gray() -> None:
    images = torch.full((64, 3, SIDE_PX, SIDE_PX), 0.2)
    result = changed(images, erase=1.0, erase_area=(0.1, 0.3))
    erased = result != images
    assert (result[erased] == 0.5).all()
    assert torch.equal(erased[:, 0], erased[:, 1])
    area = erased[:, 0].float().mean(dim=(1, 2))
    # The aspect ratio is cut where the rectangle would leave the image, so some cover less.
    assert 0.1 - 0.02 <= area.max() <= 0.3 + 0.02
    assert area.median() > 0.1
    for mask in erased[:, 0]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])


def test_erasing_covers_each_image_with_a_gray_level_of_its_own_if_none_is_set() -> None:
    images = torch.full((64, 3, SIDE_PX, SIDE_PX), -1.0)
    config = replace(NOTHING, erase=1.0, erase_area=(0.1, 0.3))
    seed_step(0, 0, 0)
    result = Augmenter(replace(config, erase_gray=None), SIDE_PX).erasing(images)
    levels = [image[image >= 0].unique() for image in result]
    assert all(len(level) == 1 for level in levels)
    drawn = torch.cat(levels)
    assert drawn.min() < 0.1
    assert drawn.max() > 0.9
    assert len(drawn.unique()) > 60
    seed_step(0, 0, 0)
    fixed = Augmenter(replace(config, erase_gray=0.25), SIDE_PX).erasing(images)
    assert (fixed[fixed >= 0] == 0.25).all()
    assert torch.equal(fixed >= 0, result >= 0)  # the same rectangles


def test_stages_are_a_image_before_and_after_erasing() -> None:
    images, augment = sample_images(), replace(recipe("ddamfn_ferplus_cpu").augment, erase=1.0, erase_gray=None)
    seed_step(5, 0, 0)
    before, after = Augmenter(augment, SIDE_PX).stages(images)
    seed_step(5, 0, 0)
    assert torch.equal(Augmenter(replace(augment, erase=0.0), SIDE_PX)(images), before)
    seed_step(5, 0, 0)
    assert torch.equal(Augmenter(augment, SIDE_PX)(images), after)
    covered = (before != after).flatten(1).float().mean(dim=1)
    assert (covered > 0).all()
    assert (covered < 0.2).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["ddamfn_ferplus_cpu", "ddamfn_affectnet", "ddamfn_quick"])
def test_recipes_keep_shape_and_range(name: str, channels: int) -> None:
    images = torch.rand(16, channels, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0))
    seed_step(0, 0, 0)
    result = Augmenter(recipe(name).augment, SIDE_PX)(images)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert not torch.equal(result, images)


def test_a_gray_image_is_changed_like_an_rgb_one() -> None:
    gray = sample_images(16, channels=1)
    augment = replace(recipe("ddamfn_ferplus_cpu").augment, noise=0.0)  # noise is drawn a channel at a time
    seed_step(3, 1, 2)
    once = Augmenter(augment, SIDE_PX)(gray)
    seed_step(3, 1, 2)
    threefold = Augmenter(augment, SIDE_PX)(gray.expand(-1, 3, -1, -1).clone())
    assert torch.allclose(threefold, once.expand(-1, 3, -1, -1), atol=1e-6)


def test_chance_depends_on_seed_epoch_and_step_alone() -> None:
    images, augment = sample_images(), Augmenter(recipe("ddamfn_ferplus_cpu").augment, SIDE_PX)

    def at(*place: int) -> Tensor:
        torch.rand(17)
        seed_step(*place)
        result: Tensor = augment(images)
        return result

    first = at(0, 2, 5)
    assert torch.equal(first, at(0, 2, 5))
    for other in ((1, 2, 5), (0, 3, 5), (0, 2, 6)):
        assert not torch.equal(first, at(*other))


def test_the_input_is_what_prediction_makes_of_the_same_pixels() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (4, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    data = recipe("ddamfn_rafdb").data
    images = torch.from_numpy(crops).permute(0, 3, 1, 2)
    expected = torch.from_numpy(normalize(crops, data.mean, data.std))
    result = to_input(images.double() / 255, data.mean, data.std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, expected)
    # Training rounds once more on the way; that is an eighth of a millionth.
    assert torch.allclose(to_input(images.float() / 255, data.mean, data.std), expected, atol=1e-6)


def test_one_gray_channel_stands_for_three() -> None:
    gray = torch.rand(2, 1, 8, 8)
    data = recipe("ddamfn_rafdb").data
    assert torch.equal(to_input(gray, data.mean, data.std), to_input(gray.expand(-1, 3, -1, -1), data.mean, data.std))
