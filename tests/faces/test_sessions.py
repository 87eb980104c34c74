"""ONNX Runtime sessions: execution providers by name, threads, and options of the caller."""

from typing import Any

import onnxruntime
import pytest

from ddamfn.errors import UsageError
from ddamfn.faces.sessions import open_session

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Opened:
    """Stands in for a session, and keeps what it was opened with."""

    def __init__(self, network: bytes, options: onnxruntime.SessionOptions, providers: list[Any]) -> None:
        self.options, self.providers = options, providers
        self.active = [entry if isinstance(entry, str) else entry[0] for entry in providers]

    def get_providers(self) -> list[str]:
        return self.active


@pytest.fixture(autouse=True)
def _machine_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CUDA, _CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Opened)


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        (None, [_CPU]),
        ("cpu", [_CPU]),
        ("CUDA", [_CUDA]),
        (["cuda", "cpu"], [_CUDA, _CPU]),
        ([_CUDA], [_CUDA]),
        ([("cuda", {"device_id": 1}), "cpu"], [(_CUDA, {"device_id": 1}), _CPU]),
    ],
)
def test_providers_go_by_short_and_full_names(providers: Any, expected: list[Any]) -> None:
    assert open_session(b"", providers=providers).providers == expected


@pytest.mark.parametrize("name", ["openvino", "CoreMLExecutionProvider", "tpu", ""])
def test_an_absent_provider_lists_those_at_hand(name: str) -> None:
    with pytest.raises(UsageError, match=r"cuda, cpu") as caught:
        open_session(b"", providers=[name])
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_provider_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="providers"):
        open_session(b"", providers=[])


def test_a_provider_that_the_machine_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # ONNX Runtime falls back to the CPU by itself where CUDA's libraries are missing.
    monkeypatch.setattr(Opened, "get_providers", lambda session: [_CPU])
    with pytest.raises(UsageError, match="cuda"):
        open_session(b"", providers="cuda")


def test_threads_and_the_callers_options_reach_the_session() -> None:
    assert open_session(b"", num_threads=3).options.intra_op_num_threads == 3
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 5
    assert open_session(b"", session_options=options).options is options
    with pytest.raises(UsageError, match="num_threads"):
        open_session(b"", num_threads=3, session_options=options)


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("2,1", 2), ("", 0), ("many", 0)])
def test_the_usual_number_of_threads_is_the_environments(
    said: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert open_session(b"").options.intra_op_num_threads == expected  # type: ignore[attr-defined]
    assert open_session(b"", num_threads=4).options.intra_op_num_threads == 4  # type: ignore[attr-defined]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert open_session(b"").options.intra_op_num_threads == 0  # type: ignore[attr-defined]
