"""The gate lets good files through and holds bad ones back."""

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")

from torch import nn

from ddamfn.errors import WeightsError
from ddamfn.export import check_parity, export_onnx, measure_parity
from ddamfn.export.gates import logit_distance


def test_true_file_passes(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    parity = check_parity(tiny, export_onnx(tiny, tmp_path / "a.onnx"), faces, least_faces=len(faces))
    assert parity.passed
    assert parity.to_dict()["n"] == 40


def test_both_runtimes_keep_to_the_threads_that_were_asked_for(
    tiny: nn.Module, faces: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, given, before = export_onnx(tiny, tmp_path / "a.onnx"), [], torch.get_num_threads()
    open_session = onnxruntime.InferenceSession

    def session(name: str, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return open_session(name, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert measure_parity(tiny, path, faces).passed
    finally:
        torch.set_num_threads(before)
    assert given == [1, 2]


def test_file_of_other_weights_is_held_back(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("classifier").bias.data[0] += 3e-4
    path = export_onnx(other, tmp_path / "a.onnx")
    parity = measure_parity(tiny, path, faces)
    assert parity.changed == 0
    assert parity.logit_difference == pytest.approx(3e-4, rel=0.05)
    with pytest.raises(
        WeightsError, match=r"fails its gate on 40 faces: 0 answers changed, logits differ by up to 0\.0003"
    ):
        check_parity(tiny, path, faces, least_faces=40)


def test_attention_counts_too(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("mix").bias.data += 0.01
    parity = measure_parity(tiny, export_onnx(other, tmp_path / "a.onnx"), faces)
    assert parity.logit_difference < 1e-5
    assert parity.attention_difference > 1e-3
    assert not parity.passed


def test_changed_answers_fail_float16_too(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("classifier").weight.data[[0, 1]] = other.get_submodule("classifier").weight.data[[1, 0]]
    path = export_onnx(other, tmp_path / "a.onnx", precision="float16")
    with pytest.raises(WeightsError, match="export with float32"):
        check_parity(tiny, path, faces, "float16", least_faces=40)


def test_float16_may_differ_where_no_answer_changes(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    tiny.get_submodule("classifier").bias.data[2] += 2.0
    path = export_onnx(tiny, tmp_path / "a.onnx", precision="float16")
    parity = check_parity(tiny, path, faces, "float16", least_faces=40)
    assert parity.logit_difference > parity.exactness
    # Held to float32's bound, the same file would not pass.
    assert not measure_parity(tiny, path, faces, "float32").passed


def test_too_few_faces_are_no_gate(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    path = export_onnx(tiny, tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match="on 1000 faces, and only 40 were given"):
        check_parity(tiny, path, faces)
    with pytest.raises(WeightsError, match="no faces"):
        measure_parity(tiny, path, faces[:0])


def test_rounding_is_judged_by_the_size_of_what_is_rounded() -> None:
    true = np.array([[0.5, -0.25], [80.0, -40.0]], dtype=np.float32)
    assert logit_distance(true + np.float32([[0, 0.125], [0, 0]]), true) == pytest.approx(0.125)
    assert logit_distance(true + np.float32([[0, 0], [0, 8]]), true) == pytest.approx(0.1)
