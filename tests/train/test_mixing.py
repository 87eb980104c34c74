"""Mixtures are convex, in pairs, and follow the step's seed alone."""

import pytest
import torch
from torch import Tensor

from ddamfn.train import Augment
from ddamfn.train.augment import Batch, mix, seed_step

B, K, SIDE = 6, 6, 8


def batch(weights: Tensor | None = None) -> Batch:
    """Images whose pixels are all their own number, each of its own class."""
    images = torch.arange(B).float().view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE).contiguous()
    return Batch(images, torch.eye(K), weights)


def mixed(config: Augment, seed: int, weights: Tensor | None = None) -> Batch:
    seed_step(seed, 0, 0)
    return mix(batch(weights), config)


def test_off_it_gives_the_very_same_batch_and_draws_nothing() -> None:
    seed_step(0, 0, 0)
    before, given = torch.get_rng_state(), batch()
    assert mix(given, Augment()) is given
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("config", [Augment(mixup=0.4), Augment(cutmix=1.0)])
def test_targets_are_convex_mixtures_of_two_images(config: Augment) -> None:
    changed = 0
    for seed in range(20):
        images, targets, weights, unerased = mixed(config, seed)
        assert weights is None
        assert unerased is None
        assert ((targets >= 0) & (targets <= 1)).all()
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(B))
        assert (targets.count_nonzero(dim=1) <= 2).all()
        # The mean over an image's pixels is its number, mixed in the same way as its target.
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), targets @ torch.arange(K).float(), rtol=1e-4, atol=1e-4)
        changed += int((targets.max(dim=1).values < 0.999).any())
    assert changed > 10


def test_mixup_blends_every_pixel_and_cutmix_none() -> None:
    assert any((mixed(Augment(mixup=1.0), seed).images % 1 > 1e-3).any() for seed in range(3))
    for seed in range(10):
        images = mixed(Augment(cutmix=1.0), seed).images
        assert (images % 1 == 0).all()
        for image in images[:, 0]:
            own = image.mode().values if (image == image[0, 0]).all() else None
            rows, columns = (image != image.flatten()[0]).nonzero(as_tuple=True)
            if own is None and (image.flatten()[[0, SIDE - 1, -SIDE, -1]] == image[0, 0]).all():
                # A rectangle inside the image, without holes.
                size = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
                assert len(rows) == size


def test_the_share_follows_beta() -> None:
    """Beta(a, a) has a mean of 1/2 and a variance of 1 / (4 (2 a + 1))."""
    for alpha in (0.2, 2.0):
        shares = []
        for seed in range(600):
            targets = mixed(Augment(mixup=alpha), seed).targets
            moved = targets.diagonal() < 1
            shares.append(float(targets.diagonal()[moved][0]) if moved.any() else 1.0)
        values = torch.tensor(shares)
        assert float(values.mean()) == pytest.approx(0.5, abs=0.06)
        assert float(values.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_with_both_on_each_takes_its_turn() -> None:
    both = Augment(mixup=2.0, cutmix=2.0)
    blended = sum(bool((mixed(both, seed).images % 1 > 1e-3).any()) for seed in range(200))
    assert 70 < blended < 130


def test_chance_is_the_step_s_seed() -> None:
    both = Augment(mixup=0.4, cutmix=1.0)
    one, two, other = (mixed(both, seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.targets, two.targets)
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize("config", [Augment(mixup=1.0), Augment(cutmix=1.0)])
def test_weights_are_mixed_with_what_they_weigh(config: Augment) -> None:
    weights = torch.tensor([0.2, 0.6, 1.0, 1.2, 1.4, 1.6])
    for seed in range(5):
        plain, weighed = mixed(config, seed), mixed(config, seed, weights)
        assert torch.equal(plain.images, weighed.images)
        assert weighed.weights is not None
        # Each part of the product is the share of an image times its own weight.
        torch.testing.assert_close(weighed.weights.unsqueeze(1) * weighed.targets, plain.targets * weights)
        torch.testing.assert_close(weighed.targets.sum(dim=1), torch.ones(B))


@pytest.mark.parametrize("config", [Augment(mixup=0.4), Augment(cutmix=1.0)])
def test_unerased_images_are_mixed_like_the_images(config: Augment) -> None:
    plain = batch()
    for seed in range(5):
        seed_step(seed, 0, 0)
        both = mix(plain._replace(unerased=plain.images + 100), config)
        assert both.unerased is not None
        torch.testing.assert_close(both.unerased, both.images + 100)
        alone = mixed(config, seed)
        assert torch.equal(both.images, alone.images)
        assert torch.equal(both.targets, alone.targets)
