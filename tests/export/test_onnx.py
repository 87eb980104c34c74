"""The exported file: inputs, outputs, precision, and nothing of the machine that it was made on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")
onnx = pytest.importorskip("onnx", reason="exporting needs onnx")

import onnxruntime
from torch import Tensor, nn

from ddamfn.errors import ConfigError, WeightsError
from ddamfn.export import Gate, GateFaces, compare, export_onnx, onnx_runner, torch_runner
from ddamfn.export.onnx import exported_outputs
from ddamfn.models import ModelOutput, create_network
from ddamfn.models.fused import fuse, unfuse
from ddamfn.train.initial import read_initializers


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(["logits", "attention"], {"input": images}))


@pytest.fixture(scope="module")
def whole(short_trunk: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """The network, exported once; all 34 blocks take half a minute, and the gate of `ddamfn export` compares those."""
    torch.manual_seed(0)
    network = create_network("ddamfn", num_classes=8, num_heads=2).eval()
    # As after training no two tensors are equal: the exporter keeps equal ones once, under one name.
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data += 0.1 * torch.rand_like(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data = 0.01 * torch.randn_like(module.bias)
    # A steep slope where no layer follows that could take over a sign.
    network.get_submodule("trunk.stem.act").weight.data[5] = 1.3
    return network, export_onnx(network, tmp_path_factory.mktemp("whole") / "ddamfn.onnx")


def test_ddamfn_computes_what_pytorch_computes(whole: tuple[nn.Module, Path], faces: np.ndarray) -> None:
    network, path = whole
    given = GateFaces([faces], "faces", lambda crops: crops)  # type: ignore[return-value]
    measured = compare(torch_runner(network), onnx_runner(path), given, Gate(1e-4))
    assert (measured.n, measured.changed, measured.failures) == (40, 0, ())
    assert 0 < max(measured.logit_difference, measured.attention_difference) <= 1e-4


def test_the_file_can_be_read_back_into_pytorch(whole: tuple[nn.Module, Path], faces: np.ndarray) -> None:
    again = create_network("ddamfn", num_classes=8, num_heads=2).eval()
    unfuse(again, read_initializers(whole[1].read_bytes(), whole[1]))
    expected, given = (exported_outputs(network, torch.from_numpy(faces[:3])) for network in (whole[0], again))
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_faces(whole: tuple[nn.Module, Path], faces: np.ndarray, count: int) -> None:
    network, path = whole
    logits, attention = run(path, faces[:count])
    assert logits.shape == (count, 8)
    assert attention.shape == (count, 2, 7, 7)
    expected = exported_outputs(network, torch.from_numpy(faces[:count]))
    np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(attention, expected[1].numpy(), atol=1e-5)


def test_the_runtime_stays_in_its_fast_layout(whole: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """Guards the inferred shapes in the file: without them each product leaves the layout, at twice the time."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(whole[1]), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    if "ReorderOutput" not in kinds and "ReorderInput" not in kinds:
        pytest.skip("this processor has no blocked layout in ONNX Runtime")
    assert kinds["ReorderInput"] + kinds["ReorderOutput"] <= 10
    assert kinds["Transpose"] + kinds["Split"] + kinds["PRelu"] == 0
    assert kinds.total() < 600


def test_file_tells_nothing_of_its_making(whole: tuple[nn.Module, Path]) -> None:
    content = whole[1].read_bytes()
    for trace in (b".py", b"/src/", b"site-packages", b"stack_trace", str(Path.cwd()).encode()):
        assert trace not in content
    model = onnx.load(whole[1])
    assert not model.metadata_props
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)


def test_equal_weights_give_equal_bytes(tiny: nn.Module, tmp_path: Path) -> None:
    first, second = (export_onnx(tiny, tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_float16_stores_half_and_computes_whole(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    path = export_onnx(tiny, tmp_path / "short.onnx", precision="float16")
    stored = {t.name: t.data_type for t in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in stored.values()
    logits, attention = run(path, faces)
    assert logits.dtype == attention.dtype == np.float32
    images = torch.from_numpy(faces)
    np.testing.assert_allclose(logits, exported_outputs(fuse(tiny, float16=True), images)[0].numpy(), atol=1e-5)
    assert 1e-5 < np.abs(logits - exported_outputs(tiny, images)[0].numpy()).max() < 1e-2


def test_network_without_heads_has_an_empty_attention(tmp_path: Path, faces: np.ndarray) -> None:
    class Headless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(3 * 49, 7)

        def forward(self, images: Tensor) -> ModelOutput:
            pooled = nn.functional.avg_pool2d(images, 16)
            return ModelOutput(self.classifier(pooled.flatten(1)), pooled, pooled.new_empty((len(images), 0, 3, 7, 7)))

    network = Headless().eval()
    path = export_onnx(network, tmp_path / "headless.onnx")
    logits, attention = run(path, faces[:3])
    assert (logits.shape, attention.shape) == ((3, 7), (3, 0, 7, 7))
    given = GateFaces([faces[:4]], "faces", lambda crops: crops)  # type: ignore[return-value]
    measured = compare(torch_runner(network), onnx_runner(path), given, Gate(1e-4))
    assert (measured.attention_difference, measured.failures) == (0.0, ())


def test_diverged_network_is_refused(tiny: nn.Module, tmp_path: Path) -> None:
    next(tiny.parameters()).data[0] = float("nan")
    with pytest.raises(WeightsError, match="not finite"):
        export_onnx(tiny, tmp_path / "bad.onnx")
    assert not list(tmp_path.iterdir())


def test_weight_beyond_float16_is_refused(tiny: nn.Module, tmp_path: Path) -> None:
    tiny.get_submodule("classifier").weight.data[0, 0] = 70_000.0
    with pytest.raises(WeightsError, match="too large for float16"):
        export_onnx(tiny, tmp_path / "bad.onnx", precision="float16")
    assert export_onnx(tiny, tmp_path / "good.onnx").exists()


def test_unknown_precision_and_place_are_named(tiny: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'int8'"):
        export_onnx(tiny, tmp_path / "a.onnx", precision="int8")  # type: ignore[arg-type]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot write"):
        export_onnx(tiny, tmp_path / "file" / "a.onnx")
