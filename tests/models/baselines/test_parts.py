"""What is particular to RAN, SCN, DACL, MViT and PSR."""

import pytest
import torch

from ddamfn.models import create_network
from ddamfn.models.baselines.dacl import FeatureAttention
from ddamfn.models.baselines.mvit import MViT
from ddamfn.models.baselines.psr import SpatialTransformer, SuperResolution
from ddamfn.models.baselines.ran import REGIONS, region_crops


def test_ran_sees_five_regions_and_the_whole() -> None:
    """An image whose pixels tell their own place: (x, y) from 0 to 1."""
    side = 120
    places = (torch.arange(side) + 0.5) / side
    image = torch.stack([places.expand(side, side), places.unsqueeze(1).expand(side, side), torch.zeros(side, side)])
    crops = region_crops(image.unsqueeze(0))
    assert crops.shape == (1, 6, 3, side, side)
    assert torch.equal(crops[0, -1], image)
    for crop, (left, top, part) in zip(crops[0], REGIONS, strict=False):
        assert crop[:2, 0, 0].tolist() == pytest.approx([left, top], abs=0.01)
        assert crop[:2, -1, -1].tolist() == pytest.approx([left + part, top + part], abs=0.01)


def test_ran_trusts_equal_crops_equally() -> None:
    network = create_network("ran", num_classes=3).eval()
    plain = torch.ones(1, 3, 32, 32) * torch.tensor([0.3, -1.0, 2.0]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        even, uneven = network(plain), network(torch.randn(1, 3, 32, 32))
    weights = even.extra["crop_weights"]
    assert weights.shape == (1, 6)
    torch.testing.assert_close(weights, weights[:, :1].expand(1, 6))
    assert float(uneven.extra["crop_weights"].std()) > 1e-5


def test_scn_s_weight_scales_the_logits() -> None:
    network = create_network("scn", num_classes=4).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 32, 32))
        importance = output.extra["importance"]
        plain = network.classifier(output.features.mean(dim=(2, 3)))
    assert ((importance > 0) & (importance < 1)).all()
    torch.testing.assert_close(output.logits, plain * importance.unsqueeze(1))


def test_dacl_answers_without_its_attention_network() -> None:
    with torch.device("meta"):
        network = create_network("dacl", num_classes=3)
        image = torch.zeros(2, 3, 64, 64)
        assert sorted(network.train()(image).extra) == ["channel_weights", "embedding"]
        network.attention = None
        assert network.eval()(image).extra == {}


def test_dacl_s_channel_weights_lie_between_0_and_1() -> None:
    weigh = FeatureAttention().eval()
    with torch.no_grad():
        weights = weigh(torch.randn(2, 512, 4, 4))
    assert weights.shape == (2, 512)
    assert ((weights > 0) & (weights < 1)).all()
    assert float(weights.mean()) == pytest.approx(0.5, abs=0.1)


def test_mvit_lays_each_patch_s_mask_where_the_patch_is() -> None:
    network = create_network("mvit", num_classes=3, mask_depth=1, depth=1).eval()
    assert isinstance(network, MViT)
    values = torch.linspace(-1, 1, 3 * 16 * 16)
    with torch.no_grad():
        network.mask.weight.zero_()
        network.mask.bias.copy_(values)
        mask = network(torch.randn(1, 3, 32, 48)).attention
    patch = torch.sigmoid(values).reshape(3, 16, 16)
    assert mask.shape == (1, 1, 3, 32, 48)
    torch.testing.assert_close(mask[0, 0], patch.repeat(1, 2, 3))


def test_mvit_reads_nothing_behind_its_mask() -> None:
    network = create_network("mvit", num_classes=3, mask_depth=1, depth=1).eval()
    with torch.no_grad():
        network.mask.weight.zero_()
        network.mask.bias.fill_(-200)
        logits = network(torch.randn(2, 3, 32, 32)).logits
    # Two threads may add in another order for each image; two images that are read differ far more.
    assert torch.allclose(logits[0], logits[1], atol=1e-5)


def test_mvit_takes_whole_patches_alone() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="multiples of 16 px, not 100x112"):
        create_network("mvit", num_classes=3)(torch.zeros(1, 3, 112, 100))


def test_psr_answers_the_mean_of_its_branches_probabilities() -> None:
    network = create_network("psr", num_classes=4).eval()
    with torch.no_grad():
        output = network(torch.randn(1, 3, 64, 64))
    mean = torch.softmax(output.extra["branch_logits"], dim=2).mean(dim=1)
    torch.testing.assert_close(output.logits.exp(), mean)
    assert float(output.logits.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_psr_s_spatial_transformer_begins_as_nothing() -> None:
    images = torch.randn(2, 3, 64, 64)
    transform = SpatialTransformer()
    with torch.no_grad():
        torch.testing.assert_close(transform(images), images, rtol=1e-4, atol=1e-4)
        # One pixel to the left: what was at x + 1 is then at x.
        transform.pose[2].bias[2] = 2 / 64
        torch.testing.assert_close(transform(images)[..., :-1], images[..., 1:], rtol=1e-3, atol=1e-3)


def test_super_resolution_doubles_the_side() -> None:
    with torch.device("meta"):
        assert SuperResolution()(torch.zeros(1, 3, 25, 30)).shape == (1, 3, 50, 60)
