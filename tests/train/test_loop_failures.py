"""What does not fit says so in one line and leaves no folder behind, so that the same name can be used again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddamfn.errors import ConfigError
from ddamfn.train import Run, fit, override
from ddamfn.train.loop import _translate_errors
from ddamfn.train.run_folder import RunFolder
from ddamfn.train.tensorset import TensorSplit

Splits = tuple[TensorSplit, TensorSplit]


def test_an_objective_of_another_paper_leaves_no_folder(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    with pytest.raises(ConfigError, match=r"objective dacl needs .* choose the network of the same paper"):
        fit(make_run(objective={"name": "dacl"}), *splits, tmp_path / "runs" / "one", reporter)
    assert not (tmp_path / "runs" / "one").exists()


def test_weights_that_are_not_there_leave_no_folder(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    with pytest.raises(ConfigError, match=r"no run with kept weights, no \.safetensors or"):
        fit(make_run(initial=str(tmp_path / "none")), *splits, tmp_path / "one", reporter)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays(make_run: Callable[..., Run], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="a word"), folder.lock():
        raise ConfigError("a word")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_was_trained_is_never_taken_back(make_run: Callable[..., Run], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "one")
    folder.begin(make_run(), {}, resume=False)
    folder.state.parent.mkdir()
    folder.state.write_bytes(b"trained")
    with pytest.raises(ConfigError, match="a word"), _translate_errors(make_run(), folder):
        raise ConfigError("a word")
    assert folder.config.exists()
    assert folder.state.exists()


def test_a_network_that_cannot_be_compiled(
    splits: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.compile

    def without_compiler(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more lines")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: real(torch.nn.ReLU(), backend=without_compiler))
    with pytest.raises(ConfigError) as caught:
        fit(make_run(compile=True), *splits, tmp_path / "one", reporter)
    message = str(caught.value)
    assert message.startswith("the network cannot be compiled here (")
    assert "No working C++ compiler found" in message
    assert message.endswith("or train with --set compile=false")
    assert "\n" not in message
    assert not (tmp_path / "one").exists()


def test_other_errors_pass_as_they_are(make_run: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^shapes"), _translate_errors(make_run(), RunFolder(tmp_path / "one")):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(("model", "channels"), [("mvit", 384), ("poster", 256)])
def test_a_head_of_a_pretext_task_fits_the_network(make_run: Callable[..., Run], model: str, channels: int) -> None:
    task = {"objective": {"name": "rotation"}, "model.name": model, "model.options": {}}
    with pytest.raises(ConfigError, match=rf"^the network's map has {channels} channels, not 512; --set objective"):
        override(make_run(), task)
    run = override(make_run(), {**task, "objective": {"name": "rotation", "channels": channels}})
    assert run.model.name == model
