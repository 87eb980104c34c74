"""Files of the authors: every kind is read, and what does not fit is said in one line.

With the first of equal blocks alone; test_golden.py reads the whole networks.
"""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models.ddamfn import DDAMFN, MFN
from ddamfn.models.legacy import load_authors_checkpoint

State = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("short_trunk")


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("wrapper", ["model_state_dict", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_ddamfn_in_every_wrapping(wrapper: str | None, prefix: str, tmp_path: Path, ddamfn_state: State) -> None:
    state = OrderedDict((prefix + name, value) for name, value in ddamfn_state.items())
    torch.save({"epoch": 20, wrapper: state} if wrapper else state, tmp_path / "a.pth")
    network = load_authors_checkpoint(str(tmp_path / "a.pth"))
    assert isinstance(network, DDAMFN)
    assert not network.training
    assert torch.equal(network.ddan.classifier.weight, ddamfn_state["fc.weight"])
    assert torch.equal(network.trunk.stage6[0].mix.convs[2].weight, _last_kernel(ddamfn_state))


def _last_kernel(state: State) -> Tensor:
    return state["features.7.model.0.conv_dw.mixed_depthwise_conv.2.weight"]


@pytest.mark.parametrize(("heads", "num_classes"), [(1, 7), (3, 8), (5, 2)])
def test_heads_and_classes_are_found(
    heads: int, num_classes: int, tmp_path: Path, authors_state: Callable[..., State]
) -> None:
    torch.save(authors_state(heads=heads, num_classes=num_classes, short=True), tmp_path / "a.pth")
    network = load_authors_checkpoint(tmp_path / "a.pth")
    assert isinstance(network, DDAMFN)
    assert len(network.ddan.heads) == heads
    assert network.num_classes == num_classes


def test_dead_entries_are_not_needed(tmp_path: Path, ddamfn_state: State) -> None:
    dead = (".conv_dw.bn.", ".conv_dw.prelu.", ".CoordAtt.Linear.")
    lean = {n: v for n, v in ddamfn_state.items() if not n.startswith("bn.") and not any(part in n for part in dead)}
    assert len(lean) < len(ddamfn_state) - 50
    torch.save(lean, tmp_path / "lean.pth")
    assert isinstance(load_authors_checkpoint(tmp_path / "lean.pth"), DDAMFN)


def test_half_precision_is_read_as_float32(tmp_path: Path, ddamfn_state: State) -> None:
    torch.save({n: v.half() if v.is_floating_point() else v for n, v in ddamfn_state.items()}, tmp_path / "half.pth")
    weight = load_authors_checkpoint(tmp_path / "half.pth").trunk.stem.conv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, ddamfn_state["features.0.conv.weight"].half().float())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_whole_pickled_mfn(zipped: bool, tmp_path: Path, foreign: Any, mfn_state: State) -> None:
    path = tmp_path / "MFN_msceleb.pth"
    foreign.save(foreign.look_alike(mfn_state), path, zipped=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    network = load_authors_checkpoint(path, num_classes=8)
    assert isinstance(network, MFN)
    assert not network.training
    assert network.num_classes == 8
    torch.save(mfn_state, tmp_path / "bare.pth")
    bare = load_authors_checkpoint(tmp_path / "bare.pth").state_dict()
    for name, value in network.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, bare[name]), name
    assert "networks" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_whole_pickled_ddamfn_in_data_parallel(zipped: bool, tmp_path: Path, foreign: Any, ddamfn_state: State) -> None:
    state = {f"module.{name}": value for name, value in ddamfn_state.items()}
    path = foreign.save(foreign.look_alike(state), tmp_path / "all.pth", zipped=zipped)
    network = load_authors_checkpoint(path)
    assert torch.equal(network.trunk.stage6[0].mix.convs[2].weight, _last_kernel(ddamfn_state))


def test_trunk_of_mfn_fits_ddamfn(tmp_path: Path, mfn_state: State) -> None:
    torch.save(mfn_state, tmp_path / "mfn.pth")
    network = DDAMFN(num_classes=7)
    network.trunk.load_state_dict(load_authors_checkpoint(tmp_path / "mfn.pth").trunk.state_dict())
    assert torch.equal(network.trunk.expand.conv.weight, mfn_state["conv_6_sep.conv.weight"])


# ---------------------------------------------------------------- what is refused


def _message(path: Path, pattern: str) -> str:
    with pytest.raises(ValueError, match=pattern) as caught:
        load_authors_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"fc.bias": None}, "nothing for ddan.classifier.bias$"),
        ({"fc.weight": None}, "holds no matrix fc.weight"),
        ({"fc.weight": torch.zeros(7)}, "holds no matrix fc.weight"),
        ({"features.9.conv.weight": torch.zeros(1)}, "unexpected features.9.conv.weight$"),
        ({"features.3.model.1.CA.conv1.bias": torch.zeros(8)}, "unexpected features.3.model.1.CA.conv1.bias$"),
        ({"features.8.conv.weight": torch.zeros(2, 2)}, r"features.8.conv.weight has shape \(2, 2\) in place of \(512"),
        ({"fc.bias": torch.zeros(8)}, r"fc.bias has shape \(8,\) in place of \(7,\)"),
        ({"cat_head3.CoordAtt.conv1.bias": torch.zeros(16)}, r"heads are numbered \[0, 1, 3\]"),
        ({"cat_head2.CoordAtt.conv1.bias": torch.zeros(16)}, r"nothing for ddan.heads.2.rows.*and \d+ more$"),
        ({"ddan.classifier.bias": torch.zeros(7)}, "fc.bias and ddan.classifier.bias|ddan.classifier.bias and fc.bias"),
    ],
)
def test_what_does_not_fit_is_named(
    change: dict[str, Tensor | None], pattern: str, tmp_path: Path, ddamfn_state: State
) -> None:
    state = {name: value for name, value in {**ddamfn_state, **change}.items() if value is not None}
    torch.save({"model_state_dict": state}, tmp_path / "a.pth")
    _message(tmp_path / "a.pth", pattern)


def test_mfn_that_does_not_fit(tmp_path: Path, mfn_state: State) -> None:
    torch.save({**mfn_state, "head.weight": torch.zeros(2)}, tmp_path / "a.pth")
    _message(tmp_path / "a.pth", "does not fit MFN: unexpected head.weight$")
    torch.save({n: v for n, v in mfn_state.items() if n != "bn.running_var"}, tmp_path / "b.pth")
    _message(tmp_path / "b.pth", "nothing for norm.running_var$")


def test_files_of_other_networks(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    _message(tmp_path / "a.pth", "neither a DDAMNet")
    torch.save(nn.Linear(2, 2), tmp_path / "b.pth")
    _message(tmp_path / "b.pth", "neither a DDAMNet")
    torch.save(torch.zeros(3), tmp_path / "c.pth")
    _message(tmp_path / "c.pth", "no named weights")
    torch.save({}, tmp_path / "d.pth")
    _message(tmp_path / "d.pth", "neither a DDAMNet")


def test_files_that_are_damaged(tmp_path: Path, mfn_state: State) -> None:
    contents = {"empty": b"", "text": b"not a checkpoint\n", "pickle": pickle.dumps({"a": 1}), "zeros": bytes(100)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        _message(tmp_path / name, "cannot be read as a PyTorch file: .")
    for zipped in (True, False):
        torch.save(mfn_state, tmp_path / "whole", _use_new_zipfile_serialization=zipped)
        (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:1_000_000])
        _message(tmp_path / "cut", "cannot be read as a PyTorch file: .")


def test_a_missing_file_is_said_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_authors_checkpoint(tmp_path / "none.pth")
