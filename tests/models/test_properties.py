"""What holds for every network of the registry, and the two options that only DDAMFN has."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import ModelOutput, create_model, list_models, register_model
from ddamfn.models.mfn import fit_to_head

CLASSES = 5


@pytest.fixture(scope="module", params=list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> nn.Module:
    torch.manual_seed(7)
    return create_model(name, num_classes=CLASSES)


@pytest.fixture
def pictures(network: nn.Module) -> Tensor:
    return torch.randn(3, 3, *network.input_size)


def test_there_are_networks() -> None:
    assert {"ddamfn", "mfn"} <= set(list_models())
    assert list_models() == sorted(list_models())


def test_shapes_and_ranges(network: nn.Module, pictures: Tensor) -> None:
    with torch.no_grad():
        output = network.eval()(pictures)
    assert isinstance(output, ModelOutput)
    assert network.num_classes == CLASSES
    assert output.logits.shape == (3, CLASSES)
    assert output.features.shape == (3, 512, 7, 7)
    assert output.attention.shape[0] == 3
    assert output.attention.shape[2:] == output.features.shape[1:]
    for tensor in output:
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
    assert ((output.attention > 0) & (output.attention < 1)).all()


def test_every_parameter_gets_a_gradient(network: nn.Module, pictures: Tensor) -> None:
    network.train().zero_grad(set_to_none=True)
    nn.functional.cross_entropy(network(pictures).logits, torch.arange(3)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert torch.isfinite(parameter.grad).all(), name
        # Rounding keeps even a bias before batch normalisation, whose exact gradient is zero, away from all zeros.
        assert parameter.grad.any(), f"{name} has no influence"


def test_every_buffer_of_statistics_is_used(network: nn.Module, pictures: Tensor) -> None:
    before = {name: value.clone() for name, value in network.named_buffers()}
    with torch.no_grad():
        network.train()(pictures)
    unused = [name for name, value in network.named_buffers() if torch.equal(value, before[name])]
    assert not unused


def test_a_picture_does_not_depend_on_its_batch(network: nn.Module, pictures: Tensor) -> None:
    network.eval()
    with torch.no_grad():
        together = network(pictures)
        for number in range(len(pictures)):
            alone = network(pictures[number : number + 1])
            for part, whole in zip(alone, together, strict=True):
                torch.testing.assert_close(part[0], whole[number], rtol=1e-4, atol=1e-5)


def test_state_dict_round_trip(name: str, network: nn.Module, pictures: Tensor) -> None:
    other = create_model(name, num_classes=CLASSES)
    with torch.no_grad():
        before = network.eval()(pictures)
        assert not torch.equal(other.eval()(pictures).logits, before.logits)
        other.load_state_dict(network.state_dict())
        for found, expected in zip(other(pictures), before, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("side_px", [48, 64, 80, 128])
def test_other_sizes_of_pictures(network: nn.Module, side_px: int) -> None:
    output = network.train()(torch.randn(2, 3, side_px, side_px))
    assert output.logits.shape == (2, CLASSES)
    assert output.features.shape == (2, 512, 7, 7)
    assert output.attention.shape[3:] == (7, 7)
    output.logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_maps_of_the_right_size_pass_unchanged() -> None:
    features = torch.randn(1, 2, 7, 7)
    assert fit_to_head(features) is features
    assert fit_to_head(torch.ones(1, 2, 3, 3)).allclose(torch.ones(1, 2, 7, 7))


def test_fresh_weights_follow_the_seed(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.nn.utils.parameters_to_vector(create_model(name, num_classes=CLASSES).parameters()))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


# ---------------------------------------------------------------- DDAMFN's heads


@pytest.mark.parametrize("heads", [0, 1, 2, 3, 4])
def test_number_of_heads(heads: int) -> None:
    network = create_model("ddamfn", num_classes=7, num_heads=heads).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 112, 112))
    assert output.logits.shape == (2, 7)
    assert output.attention.shape == (2, heads, 512, 7, 7)
    assert len({float(m.sum()) for m in output.attention.transpose(0, 1)}) == heads


def test_heads_are_joined_by_their_maximum() -> None:
    network = create_model("ddamfn", num_classes=7, num_heads=3).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 112, 112))
        strongest = torch.stack([output.attention[:, h] for h in range(3)]).max(dim=0).values
        expected = network.ddan.classify(output.features * strongest)
    torch.testing.assert_close(output.logits, expected)


def test_equal_heads_change_nothing() -> None:
    one = create_model("ddamfn", num_classes=7, num_heads=1).eval()
    two = create_model("ddamfn", num_classes=7, num_heads=2).eval()
    state = one.state_dict()
    state |= {name.replace("heads.0", "heads.1"): value for name, value in state.items() if "heads.0" in name}
    two.load_state_dict(state)
    picture = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(one(picture).logits, two(picture).logits)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wrong", "options", "pattern"),
    [
        ("resnet", {}, "no network named 'resnet'; there are: .*ddamfn.*mfn"),
        ("", {}, "no network named ''"),
        ("ddamfn", {"num_classes": 1}, "num_classes must be at least 2, not 1"),
        ("ddamfn", {"num_heads": -1}, "num_heads must be 0 or more, not -1"),
        ("ddamfn", {"heads": 2}, "ddamfn has no option heads; it has: num_heads, mixed_kernels, coordinate_attention"),
        ("mfn", {"num_heads": 2, "depth": 3}, "mfn has no option depth, num_heads; it has: embedding_dim, "),
    ],
)
def test_wrong_names_and_options(wrong: str, options: dict[str, Any], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        create_model(wrong, **{"num_classes": 7, **options})


def test_a_name_is_registered_once() -> None:
    def ddamfn(*, num_classes: int) -> nn.Module:
        return nn.Linear(1, num_classes)

    with pytest.raises(ValueError, match="'ddamfn' is registered already"):
        register_model(ddamfn)


def test_builders_take_their_options_by_name(name: str) -> None:
    network = create_model(name, num_classes=2)
    parameters = inspect.signature(type(network)).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
