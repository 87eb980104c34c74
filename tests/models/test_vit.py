"""The parts of transformers, against the definitions."""

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models.vit import (
    DropOne,
    DropPath,
    EncoderBlock,
    SelfAttention,
    TokenEmbedding,
    join_heads,
    split_heads,
)


def test_self_attention_is_the_one_of_torch() -> None:
    ours, theirs = SelfAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.project.weight)
        theirs.out_proj.bias.copy_(ours.project.bias)
    tokens = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_splitting_and_joining_heads() -> None:
    tokens = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    parts = split_heads(tokens, 4)
    assert parts.shape == (2, 4, 3, 2)
    assert torch.equal(parts[1, 2, 0], tokens[1, 0, 4:6])
    assert torch.equal(join_heads(parts), tokens)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_one_entry_is_dropped_whole(rate: float) -> None:
    x = torch.rand(2000, 4, 3, 2) + 0.1
    dropped = DropOne(rate).train()(x)
    gone = (dropped == 0).flatten(2).all(dim=2)
    kept = (dropped == x).flatten(2).all(dim=2)
    assert (gone ^ kept).all()
    assert (gone.sum(dim=1) <= 1).all()
    assert float(gone.any(dim=1).float().mean()) == pytest.approx(rate, abs=0.04)
    if rate == 1:
        assert gone.float().mean(dim=0).tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.rand(50, 4, 3)
    assert DropOne(1.0).eval()(x) is x
    assert DropPath(0.9).eval()(x) is x


def test_a_rate_is_a_probability() -> None:
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        DropOne(1.5)


def test_paths_are_dropped_sample_by_sample_and_scaled() -> None:
    dropped = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped.amin(dim=(1, 2)), dropped.amax(dim=(1, 2)))
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)


def test_patches_are_lined_up_row_by_row() -> None:
    patches = nn.Conv2d(3, 3 * 4, 2, stride=2)
    with torch.no_grad():
        patches.weight.copy_(torch.eye(12).reshape(12, 3, 2, 2))
        patches.bias.zero_()
    image = torch.randn(1, 3, 4, 6)
    embed = TokenEmbedding(12, grid=2)
    with torch.no_grad():
        embed.positions.zero_()
        tokens = embed(patches(image))
    assert tokens.shape == (1, 1 + 2 * 3, 12)
    assert torch.equal(tokens[0, 0], embed.class_token[0, 0])
    assert torch.allclose(tokens[0, 1 + 1 * 3 + 2], image[0, :, 2:4, 4:6].flatten())


def test_positions_are_resampled_for_other_maps() -> None:
    embed = TokenEmbedding(1, grid=4)
    plane = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        embed.class_token.fill_(50)
        embed.positions.copy_(torch.cat([torch.tensor([[[7.0]]]), plane.flatten(2).transpose(1, 2)], dim=1))
        own, other = embed(torch.zeros(1, 1, 4, 4)), embed(torch.zeros(1, 1, 2, 6))
    assert own.flatten().tolist() == [57.0, *range(16)]
    assert other.shape == (1, 13, 1)
    assert float(other[0, 0]) == 57.0
    grid = other[0, 1:, 0].reshape(2, 6)
    assert (grid.diff(dim=1) > 0).all()
    assert (grid.diff(dim=0) > 0).all()


def test_an_encoder_block_mixes_tokens_and_keeps_their_shape() -> None:
    block = EncoderBlock(8, 2, mlp_ratio=2).eval()
    tokens = torch.randn(1, 4, 8)
    moved = tokens.clone()
    moved[0, 3, 0] += 1
    with torch.no_grad():
        change: Tensor = block(moved) - block(tokens)
    assert change.shape == tokens.shape
    assert (change.abs().amax(dim=2) > 0).all()
