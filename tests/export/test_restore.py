"""The way back from an exported file to the network."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from torch import Tensor, nn

from ddamfn.errors import WeightsError
from ddamfn.export import export_onnx
from ddamfn.export.lean import lean
from ddamfn.models import create_model
from ddamfn.models.layers import (
    ConvBlock,
    DirectionalGates,
    LinearBlock,
)
from ddamfn.train.restore import read_initializers, restore

PLACE = Path("file.onnx")


def trained_looking(seed: int = 3, **options: object) -> nn.Module:
    """A network with running statistics of its own, and slopes of every kind: below 0, and above 1."""
    network = create_model("ddamfn", num_classes=7, **options)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(-0.5, 1.5, generator=generator)
    return network.eval()


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        said: Tensor = network(images).logits
    return said


@pytest.mark.parametrize(
    "options", [{}, {"num_heads": 0}, {"mixed_kernels": False}, {"coordinate_attention": False}], ids=str
)
def test_lean_weights_go_back_into_the_network(options: dict[str, object]) -> None:
    network = trained_looking(**options)
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    again = create_model("ddamfn", num_classes=7, **options)
    restore(again, lean(network).state_dict(), PLACE)
    torch.testing.assert_close(logits(again.eval(), images), logits(network, images), rtol=1e-4, atol=1e-5)


def test_weights_before_a_normalization_come_back_as_large_as_fresh_ones() -> None:
    source = trained_looking()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.mul_(100)
    again = create_model("ddamfn", num_classes=7)
    restore(again, lean(source).state_dict(), PLACE)
    blocks = [block for block in again.modules() if isinstance(block, (ConvBlock, LinearBlock))]
    before = [block.conv for block in blocks] + [g.squeeze for g in again.modules() if isinstance(g, DirectionalGates)]
    assert len(before) == sum(isinstance(module, nn.BatchNorm2d) for module in again.modules())
    for conv in before:
        kernels = conv.weight.flatten(1)
        ratio = kernels.square().mean(dim=1).sqrt() * (3 * kernels.shape[1]) ** 0.5
        # The nearest power of two leaves a root of two at most.
        assert ratio.min() > 0.7
        assert ratio.max() < 1.42


def test_what_is_restored_can_be_made_lean_again() -> None:
    once = lean(trained_looking())
    again = create_model("ddamfn", num_classes=7)
    restore(again, once.state_dict(), PLACE)
    twice = lean(again.eval()).state_dict()
    for name, value in once.state_dict().items():
        torch.testing.assert_close(twice[name], value, rtol=1e-6, atol=1e-6)


def test_missing_shapes_and_surplus_are_named() -> None:
    values = lean(trained_looking()).state_dict()
    network = create_model("ddamfn", num_classes=7)
    with pytest.raises(WeightsError, match=r"does not hold ddan\.pool\.weight by that name"):
        restore(network, {name: value for name, value in values.items() if name != "ddan.pool.weight"}, PLACE)
    with pytest.raises(WeightsError, match=r"ddan\.classifier\.weight has the shape \(7, 512\), the network needs \(8"):
        restore(create_model("ddamfn", num_classes=8), values, PLACE)
    with pytest.raises(WeightsError, match=r"file\.onnx holds ddan\.heads\.1\.\S+ and \d+ more"):
        restore(create_model("ddamfn", num_classes=7, num_heads=1), values, PLACE)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_initializers_go_by_the_names_of_the_network(tiny: nn.Module, tmp_path: Path, precision: str) -> None:
    path = export_onnx(tiny, tmp_path / "tiny.onnx", precision=precision)
    values = read_initializers(path.read_bytes(), path)
    tolerance = 1e-4 if precision == "float16" else 0.0
    assert set(values) == set(dict(tiny.named_parameters()))
    for name, parameter in tiny.named_parameters():
        assert values[name].dtype == torch.float32
        torch.testing.assert_close(values[name], parameter.data, rtol=0, atol=tolerance)


def test_quantized_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"file\.onnx is no ONNX network"):
        read_initializers(b"\xff\xff not a network", PLACE)
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("DequantizeLinear", ["a", "b"], ["c"])]
    ends = [helper.make_tensor_value_info(name, kinds.FLOAT, [1]) for name in "abc"]
    graph = helper.make_graph(nodes, "q", ends[:2], ends[2:])
    with pytest.raises(WeightsError, match="is quantized, which cannot be undone"):
        read_initializers(helper.make_model(graph).SerializeToString(), PLACE)


def test_slopes_come_back_exactly_where_they_are_not_steep() -> None:
    network = trained_looking()
    again = create_model("ddamfn", num_classes=7)
    restore(again, lean(network).state_dict(), PLACE)
    for old, new in zip(network.modules(), again.modules(), strict=True):
        if isinstance(old, nn.PReLU):
            gentle = old.weight <= 1
            assert torch.equal(old.weight[gentle], new.weight[gentle])
            torch.testing.assert_close(old.weight, new.weight, rtol=1e-6, atol=0)


def test_a_bias_of_zeros_may_be_left_out() -> None:
    network = create_model("ddamfn", num_classes=7).eval()
    values = {name: value for name, value in lean(network).state_dict().items() if value.any()}
    again = create_model("ddamfn", num_classes=7)
    restore(again, values, PLACE)
    images = torch.randn(1, 3, 112, 112)
    torch.testing.assert_close(logits(again.eval(), images), logits(network, images), rtol=1e-4, atol=1e-5)
