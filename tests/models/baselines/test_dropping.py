"""TransFER drops whole maps and whole heads; DAN and POSTER attend as their papers say."""

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import create_network
from ddamfn.models.baselines.dan import CrossAttentionHead
from ddamfn.models.baselines.poster import POSTER, CrossFusion, StreamBlock
from ddamfn.models.baselines.transfer import TransFER


@pytest.fixture(scope="module")
def transfer() -> TransFER:
    torch.manual_seed(3)
    network = create_network("transfer", num_classes=3, depth=2, num_branches=3, map_drop=1.0, head_drop=1.0)
    assert isinstance(network, TransFER)
    return network


def _dropped_heads(network: TransFER, images: Tensor) -> list[Tensor]:
    """What comes out of each layer's heads, (B, 8, N, 96) each."""
    seen: list[Tensor] = []
    handles = [
        block.attend.drop_head.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        for block in network.blocks
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_transfer_drops_whole_maps_while_training(transfer: TransFER) -> None:
    with torch.no_grad():
        attention = transfer.train()(torch.randn(4, 3, 32, 32)).attention
    zero = (attention == 0).flatten(2)
    assert (zero.all(dim=2).sum(dim=1) == 1).all()
    assert (zero.any(dim=2) == zero.all(dim=2)).all()


def test_transfer_drops_whole_heads_not_tokens(transfer: TransFER) -> None:
    layers = _dropped_heads(transfer.train(), torch.randn(4, 3, 32, 32))
    assert len(layers) == 2
    for heads in layers:
        assert heads.shape == (4, 8, 197, 96)
        zero = heads == 0
        assert (zero.flatten(2).all(dim=2).sum(dim=1) == 1).all()
        # Every token, the class token among them, keeps what the other seven heads give it.
        assert ((~zero).any(dim=3).sum(dim=1) == 7).all()
    assert not torch.equal(*((heads == 0).all(dim=3)[:, :, 0] for heads in layers))


def test_transfer_drops_nothing_in_evaluation(transfer: TransFER) -> None:
    images = torch.randn(2, 3, 32, 32)
    heads = _dropped_heads(transfer.eval(), images)
    assert all((part != 0).flatten(2).any(dim=2).all() for part in heads)
    with torch.no_grad():
        assert (transfer(images).attention > 0).all()


def test_transfer_begins_without_an_opinion() -> None:
    network = create_network("transfer", num_classes=4, depth=1).eval()
    with torch.no_grad():
        assert torch.equal(network(torch.randn(1, 3, 32, 32)).logits, torch.zeros(1, 4))


def test_a_head_of_dan_sums_over_channels_and_gates_what_it_finds() -> None:
    head = CrossAttentionHead().eval()
    x = torch.randn(2, 512, 5, 5)
    with torch.no_grad():
        vector, where = head(x)
        looks = sum(look(head.where.narrow(x)) for look in head.where.looks)
        weighed = (x * looks.relu().sum(dim=1, keepdim=True)).mean(dim=(2, 3))
        torch.testing.assert_close(vector, weighed * torch.sigmoid(head.what(weighed)), rtol=1e-4, atol=1e-4)
    assert where.shape == (2, 1, 5, 5)


def test_dan_has_at_least_one_head() -> None:
    with pytest.raises(ValueError, match="num_heads must be 1 or more, not 0"):
        create_network("dan", num_classes=3, num_heads=0)
    with torch.device("meta"):
        output = create_network("dan", num_classes=3, num_heads=1)(torch.zeros(2, 3, 64, 64))
    assert output.extra["heads"].shape == (2, 1, 512)


@pytest.mark.parametrize("query_projection", [True, False])
def test_streams_of_poster_ask_each_other(query_projection: bool) -> None:
    block = StreamBlock(32, query_projection=query_projection, drop=0.0).eval()
    block.think = nn.Identity()
    own, other = torch.randn(1, 50, 32), torch.randn(1, 50, 32)
    with torch.no_grad():
        asked = block.norm1(other)
        if query_projection:
            asked = asked @ block.query.weight.T + block.query.bias
        told = block.norm1(own) @ block.key_value.weight.T + block.key_value.bias
        keys, values = told[..., :32], told[..., 32:]
        gathered = []
        for head in range(8):
            part = slice(4 * head, 4 * head + 4)
            weights = torch.softmax(asked[0, :, part] @ keys[0, :, part].T / 4**0.5, dim=1)
            gathered.append(weights @ values[0, :, part])
        summed = own + torch.cat(gathered, dim=1) @ block.project.weight.T + block.project.bias
        torch.testing.assert_close(block(own, other), summed + block.norm2(summed), rtol=1e-4, atol=1e-5)


def test_the_streams_of_poster_are_exchanged_both_ways() -> None:
    fusion = CrossFusion(16, query_projection=True, drop=0.0).eval()
    tokens = torch.randn(1, 100, 16)
    with torch.no_grad():
        fusion.mix.weight.copy_(torch.eye(100).unsqueeze(2))
        fusion.mix.bias.zero_()
        fused = fusion(tokens)
        image, landmark = tokens.chunk(2, dim=1)
        torch.testing.assert_close(fused[:, :50], fusion.image(image, landmark))
        torch.testing.assert_close(fused[:, 50:], fusion.landmark(landmark, image))


def test_poster_skips_more_in_later_layers() -> None:
    with torch.device("meta"):
        network = create_network("poster", num_classes=3, depth=3)
    assert isinstance(network, POSTER)
    rates = [layer.levels[0].image.drop.rate for layer in network.layers]
    assert rates == pytest.approx([0.0, 0.05, 0.1])
