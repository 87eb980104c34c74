"""Reading the weights of an exported file."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from torch import nn

from ddamfn.errors import WeightsError
from ddamfn.export import export_onnx
from ddamfn.train.initial import read_initializers

PLACE = Path("file.onnx")


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
