"""The gate lets good files through and holds bad ones back."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="exporting needs PyTorch")

from torch import nn

from ddamfn.errors import WeightsError
from ddamfn.export import Comparison, Gate, GateFaces, compare, export_onnx, onnx_runner, torch_runner
from ddamfn.export.gates import GATES, RUN_GATES, logit_distance, synthetic_crops
from ddamfn.models.fused import fuse
from ddamfn.synthetic import synthetic_face
from ddamfn.weights import WEIGHT_FORMATS, WEIGHT_PRECISIONS, WeightPrecision


def gate_faces(inputs: np.ndarray) -> GateFaces:
    return GateFaces([inputs], f"{len(inputs)} random faces", lambda crops: crops)  # type: ignore[return-value]


def measure(network: nn.Module, path: Path, inputs: np.ndarray, precision: WeightPrecision = "float32") -> Comparison:
    """Compare a file with its network, as an export of a run does."""
    stored = torch_runner(fuse(network, float16=precision == "float16"))
    return compare(torch_runner(network), onnx_runner(path), gate_faces(inputs), RUN_GATES[precision], stored=stored)


def test_true_file_passes(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    measured = measure(tiny, export_onnx(tiny, tmp_path / "a.onnx"), faces)
    assert not measured.failures
    plain = measured.to_dict()
    assert (plain["n"], plain["changed"], plain["passed"], plain["faces"]) == (40, 0, True, "40 random faces")
    assert "speed" not in plain


def test_runtimes_keep_to_the_threads_that_were_asked_for(
    tiny: nn.Module, faces: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, given, before = export_onnx(tiny, tmp_path / "a.onnx"), [], torch.get_num_threads()
    open_session = onnxruntime.InferenceSession

    def session(name: str, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return open_session(name, options, **rest)

    seen: list[int] = []
    tiny.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for threads in (1, 2):
        compare(torch_runner(tiny, threads), onnx_runner(path, threads), gate_faces(faces[:4]), Gate(1e-4))
    assert given == seen == [1, 2]
    assert torch.get_num_threads() == before


def test_synthetic_faces_are_drawn_once_and_fewer_are_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(label: str, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(label)
        return synthetic_face(label, *rest)

    monkeypatch.setattr("ddamfn.export.gates.synthetic_face", draw)
    few, more = (synthetic_crops(("fear", "anger"), 33, count) for count in (2, 5))
    assert drawn == ["fear", "anger"] * 2 + ["fear"]
    assert more.shape == (5, 33, 33, 3)
    np.testing.assert_array_equal(few, more[:2])
    few[:] = 0
    np.testing.assert_array_equal(synthetic_crops(("fear", "anger"), 33, 5), more)
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(more[:2], [synthetic_face(name, generator, 33)[0] for name in ("fear", "anger")])


def test_file_of_other_weights_is_held_back(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("classifier").bias.data[0] += 3e-4
    measured = measure(tiny, export_onnx(other, tmp_path / "a.onnx"), faces)
    assert measured.changed == 0
    assert measured.logit_difference == pytest.approx(3e-4, rel=0.05)
    assert len(measured.failures) == 2
    assert "0.0003" in measured.failures[0]


def test_attention_counts_too(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("mix").bias.data += 0.01
    measured = measure(tiny, export_onnx(other, tmp_path / "a.onnx"), faces)
    assert measured.logit_difference < 1e-5
    assert measured.attention_difference > 1e-3
    assert measured.failures


def test_changed_predictions_fail_float16_too(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)
    other.get_submodule("classifier").weight.data[[0, 1]] = other.get_submodule("classifier").weight.data[[1, 0]]
    measured = measure(tiny, export_onnx(other, tmp_path / "a.onnx", precision="float16"), faces, "float16")
    assert measured.changed > 0
    assert any("agree" in failure for failure in measured.failures)


def test_float16_may_differ_where_no_prediction_changes(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    tiny.get_submodule("classifier").bias.data[2] += 2.0
    measured = measure(tiny, export_onnx(tiny, tmp_path / "a.onnx", precision="float16"), faces, "float16")
    assert not measured.failures
    assert measured.exactness is not None
    assert measured.logit_difference > measured.exactness
    # Held to float32's limit, the same file would not pass.
    assert replace(measured, gate=RUN_GATES["float32"]).failures


def test_float16_is_held_to_its_stored_weights(tiny: nn.Module, faces: np.ndarray, tmp_path: Path) -> None:
    tiny.get_submodule("classifier").bias.data[2] += 2.0
    path, other = export_onnx(tiny, tmp_path / "a.onnx", precision="float16"), copy.deepcopy(tiny)
    other.get_submodule("classifier").bias.data[0] += 3e-4
    stored, gate = torch_runner(fuse(other, float16=True)), RUN_GATES["float16"]
    (failure,) = compare(torch_runner(tiny), onnx_runner(path), gate_faces(faces), gate, stored=stored).failures
    assert "stored weights" in failure
    # A third network that nobody measured does not pass for one that agrees.
    assert "nan" in compare(torch_runner(tiny), onnx_runner(path), gate_faces(faces), gate).failures[0]


@pytest.mark.parametrize("place", [0, 1], ids=["logits", "attention"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_outputs_that_are_not_finite_or_of_another_shape_are_refused(
    tiny: nn.Module, faces: np.ndarray, place: int, wrong: float
) -> None:
    right = torch_runner(tiny)

    def broken(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = list(right(inputs))
        outputs[place] = outputs[place] * np.float32(wrong)
        return outputs[0], outputs[1]

    def narrow(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, attention = right(inputs)
        return logits[:, 1:], attention

    with pytest.raises(WeightsError, match="not finite"):
        compare(right, broken, gate_faces(faces), Gate(None))
    with pytest.raises(WeightsError, match=r"logits \(4, 4\), not \(4, 5\)"):
        compare(right, narrow, gate_faces(faces), Gate(None))
    with pytest.raises(WeightsError, match="no faces"):
        compare(right, right, gate_faces(faces[:0]), Gate(None))


def test_rounding_is_judged_by_the_size_of_what_is_rounded() -> None:
    expected = np.array([[0.5, -0.25], [80.0, -40.0]], dtype=np.float32)
    assert logit_distance(expected + np.float32([[0, 0.125], [0, 0]]), expected) == pytest.approx(0.125)
    assert logit_distance(expected + np.float32([[0, 0], [0, 8]]), expected) == pytest.approx(0.1)


def measured(gate: Gate, **changes: object) -> Comparison:
    values = {
        "faces": "faces", "n": 1000, "logit_difference": 0.0, "attention_difference": 0.0, "changed": 0,
        "validation": 10, "accuracy_before": 0.5, "accuracy_after": 0.5, "ms_per_face": 2.0, "ms_per_face_before": 1.0,
    }  # fmt: skip
    return Comparison(gate, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "onnx", []),
        ({"attention_difference": 2e-4}, "onnx", ["0.0002, allowed 0.0001"]),
        ({"attention_difference": 2e-4}, "openvino", []),
        ({"logit_difference": float("nan")}, "openvino", ["nan, allowed 0.001"]),
        ({"changed": 1}, "openvino", ["99.90% of the predictions agree, needed 100%"]),
        ({"changed": 20, "logit_difference": 3.0}, "onnx-int8", []),
        ({"changed": 21}, "onnx-int8", ["97.90% of the predictions agree, needed 98%"]),
        ({"accuracy_after": 0.495}, "onnx-int8", []),
        ({"accuracy_after": 0.494}, "onnx-int8", ["-0.60 points, allowed -0.5"]),
        ({"accuracy_before": None, "accuracy_after": None}, "onnx", []),
    ],
)
def test_limits(changes: dict[str, object], kind: str, words: list[str]) -> None:
    failures = measured(GATES[kind], **changes).failures
    assert len(failures) == len(words)
    assert all(word in failure for word, failure in zip(words, failures, strict=True))


def test_every_format_and_precision_has_a_gate() -> None:
    assert tuple(GATES) == WEIGHT_FORMATS
    assert tuple(RUN_GATES) == WEIGHT_PRECISIONS


@pytest.mark.parametrize(("ms", "verdict"), [(2.0, "slower"), (1.02, "about as fast"), (0.5, "faster")])
def test_slower_is_told(ms: float, verdict: str) -> None:
    words = measured(Gate(None), ms_per_face=ms).to_dict()["speed"]
    assert words.startswith(f"{1 / ms:.2f} times")
    assert words.endswith(verdict)
