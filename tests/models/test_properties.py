"""What holds for every network of the registry, and the two options that only DDAMFN has."""

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ddamfn.models import ModelOutput, create_network, list_models, register_model
from ddamfn.models.layers import fit_map
from ddamfn.objectives import OBJECTIVES, TrainingSplit

CLASSES = 5

# The large networks are tested with few of their equal layers, or narrow ones, and on small images; the whole ones at
# their own size are in test_counts.py, without numbers.
SIDE_PX = {"ddamfn": 112, "mfn": 112, "mobilefacenet": 112, "psr": 64}
SIDES_PX = {"ddamfn": (48, 128), "mfn": (80,), "psr": (80,), "mvit": (80,)}
OTHER_SIDES_PX = (64,)
"""Of the networks that are not named."""
OBJECTIVE_OF = {"dacl": "dacl", "dan": "dan", "mvit": "mvit", "psr": "psr", "ran": "ran", "scn": "scn"}
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger")


def tensors(output: ModelOutput) -> dict[str, Tensor]:
    parts = {"logits": output.logits, "features": output.features, "attention": output.attention}
    return parts | dict(output.extra)


@pytest.fixture(scope="module", autouse=True)
def _short(short_baselines: None, thin_trunk: object) -> None:
    """Few of the equal units, too; test_golden.py has the numbers of the whole DDAMFN."""


@pytest.fixture(scope="module", params=list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def weights(network: nn.Module) -> list[float]:
    return [float(parameter.detach().double().sum()) for parameter in network.parameters()]


@dataclass(frozen=True)
class Fresh:
    """A new network, and the sum of each of its parameters as it was made."""

    network: nn.Module
    weights: list[float]


@pytest.fixture(scope="module")
def fresh(name: str, light_network: Any) -> tuple[Fresh, Fresh]:
    """Two networks of different seeds."""
    one, two = (light_network(name, CLASSES, seed=seed) for seed in (7, 8))
    return Fresh(one, weights(one)), Fresh(two, weights(two))


@pytest.fixture(scope="module")
def images(name: str) -> Tensor:
    side_px = SIDE_PX.get(name, 48)
    return torch.randn(3, 3, side_px, side_px, generator=torch.Generator().manual_seed(9))


@dataclass(frozen=True)
class Pass:
    """A network that has seen the images, what it returned, and the buffers that did not change."""

    network: nn.Module
    output: ModelOutput
    unused: list[str]


@pytest.fixture(scope="module")
def trained(fresh: tuple[Fresh, Fresh], images: Tensor) -> Pass:
    """The first network after one pass in training, whose graph is kept.

    All of its parameters are in use: one that begins at zero blocks what stands before it.
    """
    network = fresh[0].network.train()
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    before = {name: value.clone() for name, value in network.named_buffers()}
    output = network(images)
    return Pass(network, output, [name for name, value in network.named_buffers() if torch.equal(value, before[name])])


@pytest.fixture(scope="module")
def evaluated(trained: Pass, images: Tensor) -> Pass:
    """A copy of it, and its outputs in evaluation."""
    frozen = copy.deepcopy(trained.network).eval()
    with torch.no_grad():
        return Pass(frozen, frozen(images), [])


def test_there_are_networks() -> None:
    baselines = {"ran", "scn", "dacl", "mvit", "psr", "dan", "transfer", "poster"}
    assert {"ddamfn", "mfn", "mobilefacenet", "iresnet18", "iresnet50"} | baselines <= set(list_models())
    assert list_models() == sorted(list_models())


def test_shapes_and_ranges(evaluated: Pass) -> None:
    output = evaluated.output
    assert isinstance(output, ModelOutput)
    assert evaluated.network.num_classes == CLASSES
    assert output.logits.shape == (3, CLASSES)
    assert output.features.ndim == 4
    assert output.attention.ndim == 5
    for part, tensor in tensors(output).items():
        assert tensor.shape[0] == 3, part
        assert tensor.dtype == torch.float32, part
        assert torch.isfinite(tensor).all(), part
    assert ((output.attention >= 0) & (output.attention <= 1)).all()
    # Constant maps would be within the range as well.
    assert all(float(head.std()) > 0 for head in output.attention.unbind(dim=1))


def test_torch_finds_every_tensor_of_an_output(trained: Pass) -> None:
    """Export, compilation and data parallelism walk through outputs; what they do not know stops them."""
    leaves = tree_leaves(trained.output)
    assert len(leaves) == 3 + len(trained.output.extra)
    assert all(isinstance(leaf, Tensor) for leaf in leaves)


def test_every_parameter_gets_a_gradient(name: str, trained: Pass) -> None:
    """With the paper's own objective: some parts are there for the loss alone."""
    channels = trained.output.features.shape[1]
    options = {"embedding_dim": channels} if name in ("dacl", "dan") else {}
    objective = OBJECTIVES[OBJECTIVE_OF.get(name, "cross_entropy")](**options)
    criterion = objective.create_criterion(TrainingSplit(classes=EXPRESSIONS, num_images=3))
    criterion(trained.output, torch.eye(CLASSES)[:3]).total.backward()
    for part, parameter in [*trained.network.named_parameters(), *criterion.named_parameters()]:
        assert parameter.grad is not None, f"{part} takes no part"
        assert torch.isfinite(parameter.grad).all(), part
        # Rounding keeps even a bias before batch normalization, whose exact gradient is zero, away from all zeros.
        assert parameter.grad.any(), f"{part} has no influence"


def test_every_buffer_of_statistics_is_used(trained: Pass) -> None:
    assert not trained.unused


def test_a_image_does_not_depend_on_its_batch(evaluated: Pass, images: Tensor) -> None:
    with torch.no_grad():
        for number in range(len(images)):
            alone = tensors(evaluated.network(images[number : number + 1]))
            for part, whole in tensors(evaluated.output).items():
                torch.testing.assert_close(alone[part][0], whole[number], rtol=1e-4, atol=1e-5)


def test_state_dict_round_trip(evaluated: Pass, fresh: tuple[Fresh, Fresh], images: Tensor) -> None:
    other, expected = fresh[1].network.eval(), tensors(evaluated.output)
    with torch.no_grad():
        assert not torch.equal(other(images).logits, expected["logits"])
        other.load_state_dict(evaluated.network.state_dict())
        for part, found in tensors(other(images)).items():
            assert torch.equal(found, expected[part]), part


def test_other_sizes_of_images(name: str, trained: Pass) -> None:
    network = trained.network
    for side_px in SIDES_PX.get(name, OTHER_SIDES_PX):
        network.zero_grad(set_to_none=True)
        output = network(torch.randn(2, 3, side_px, side_px))
        assert output.logits.shape == (2, CLASSES)
        output.logits.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["ddamfn", "mfn", "mobilefacenet", "iresnet18"])
def test_maps_keep_their_size(name: str) -> None:
    """What follows these trunks has a weight for each of 7 x 7 positions."""
    with torch.device("meta"):
        output = create_network(name, num_classes=CLASSES)(torch.zeros(2, 3, 64, 64))
    assert output.features.shape[2:] == (7, 7)
    assert output.attention.shape[2:] == output.features.shape[1:]


def test_maps_of_the_right_size_pass_unchanged() -> None:
    features = torch.randn(1, 2, 7, 7)
    assert fit_map(features, 7) is features
    assert fit_map(torch.ones(1, 2, 3, 3), 7).allclose(torch.ones(1, 2, 7, 7))


def test_fresh_weights_follow_the_seed(name: str, fresh: tuple[Fresh, Fresh], light_network: Any) -> None:
    one, two = fresh
    assert weights(light_network(name, CLASSES, seed=7)) == one.weights
    assert one.weights != two.weights


# ---------------------------------------------------------------- DDAMFN's heads


@pytest.mark.parametrize("heads", [0, 1, 2, 3, 4])
def test_number_of_heads(heads: int) -> None:
    network = create_network("ddamfn", num_classes=7, num_heads=heads).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 112, 112))
    assert output.logits.shape == (2, 7)
    assert output.attention.shape == (2, heads, 512, 7, 7)
    assert len({float(m.sum()) for m in output.attention.transpose(0, 1)}) == heads


def test_heads_are_joined_by_their_maximum() -> None:
    network = create_network("ddamfn", num_classes=7, num_heads=3).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 112, 112))
        strongest = torch.stack([output.attention[:, h] for h in range(3)]).max(dim=0).values
        expected = network.ddan.classify(output.features * strongest)
    torch.testing.assert_close(output.logits, expected)


def test_equal_heads_change_nothing() -> None:
    one = create_network("ddamfn", num_classes=7, num_heads=1).eval()
    two = create_network("ddamfn", num_classes=7, num_heads=2).eval()
    state = one.state_dict()
    state |= {name.replace("heads.0", "heads.1"): value for name, value in state.items() if "heads.0" in name}
    two.load_state_dict(state)
    image = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(one(image).logits, two(image).logits)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wrong", "options", "pattern"),
    [
        ("resnet", {}, "no network named 'resnet'; there are: .*ddamfn.*mfn"),
        ("", {}, "no network named ''"),
        ("ddamfn", {"num_classes": 1}, "num_classes must be at least 2, not 1"),
        ("ddamfn", {"num_heads": -1}, "num_heads must be 0 or more, not -1"),
        ("ddamfn", {"drop_path": 1.0}, "drop_path must be at least 0 and below 1, not 1.0"),
        ("mfn", {"drop_path": -0.1}, "drop_path must be at least 0 and below 1, not -0.1"),
        ("ddamfn", {"heads": 2}, "ddamfn has no option heads; it has: num_heads, mixed_kernels, coordinate_attention"),
        ("mfn", {"num_heads": 2, "depth": 3}, "mfn has no option depth, num_heads; it has: embedding_dim, "),
    ],
)
def test_wrong_names_and_options(wrong: str, options: dict[str, Any], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        create_network(wrong, **{"num_classes": 7, **options})


def test_a_name_is_registered_once() -> None:
    def ddamfn(*, num_classes: int) -> nn.Module:
        return nn.Linear(1, num_classes)

    with pytest.raises(ValueError, match="'ddamfn' is registered already"):
        register_model(ddamfn)


def test_builders_take_their_options_by_name(fresh: tuple[Fresh, Fresh]) -> None:
    parameters = inspect.signature(type(fresh[0].network)).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
