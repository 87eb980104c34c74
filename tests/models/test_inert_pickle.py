"""Nothing that a pickle names is ever run, and tensors come out as PyTorch itself would read them."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models.ddamfn import DDAMFN, MFN
from ddamfn.models.inert_pickle import read_inert
from ddamfn.models.legacy import load_authors_checkpoint

State = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("short_trunk")


# ---------------------------------------------------------------- what never runs


class _Bomb:
    """Runs a command when it is unpickled by anyone who believes what a pickle says."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _touch(marker: Path) -> list[_Bomb]:
    command = f"touch {marker}"
    return [_Bomb(os.system, command), _Bomb(eval, f"__import__('os').system({command!r})"), _Bomb(os.mkdir, marker)]


@pytest.mark.parametrize("bomb", range(3), ids=["os.system", "eval", "os.mkdir"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_pickled_calls_do_not_run(bomb: int, zipped: bool, tmp_path: Path, ddamfn_state: State) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    evil = {"extra": _touch(marker)[bomb], "model_state_dict": ddamfn_state}
    torch.save(evil, path, _use_new_zipfile_serialization=zipped)

    # The weights beside the bomb are plain tensors, so they are read; the bomb stays what it was.
    assert isinstance(load_authors_checkpoint(path), DDAMFN)
    assert not marker.exists()

    # The same file does go off in a reader that trusts it, so the line above proves something.
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_calls_inside_a_pickled_module_do_not_run(zipped: bool, tmp_path: Path, foreign: Any, mfn_state: State) -> None:
    marker = tmp_path / "marker"
    module = foreign.look_alike(mfn_state)
    module.note = _touch(marker)[0]
    module.conv1.note = _touch(marker)[1]
    path = foreign.save(module, tmp_path / "evil.pth", zipped=zipped)
    assert isinstance(load_authors_checkpoint(path), MFN)
    assert not marker.exists()


def test_a_call_in_place_of_a_tensor_or_of_a_file_does_not_run(tmp_path: Path, ddamfn_state: State) -> None:
    marker = tmp_path / "marker"
    torch.save({**ddamfn_state, "fc.weight": _touch(marker)[0]}, tmp_path / "a.pth")
    torch.save(_touch(marker)[0], tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(pickle.dumps(_touch(marker)[0]))
    for name in "abc":
        with pytest.raises(ValueError, match=rf"{name}\.pth: "):
            load_authors_checkpoint(tmp_path / f"{name}.pth")
    assert not marker.exists()
    pickle.loads((tmp_path / "c.pth").read_bytes())
    assert marker.exists()


def _archive(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", program)
    return path


def test_a_pickle_cannot_write_on_the_library(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever stands on the stack: of torch's own function, if a reader hands that out."""
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00evilK\x01sb."
    with pytest.raises(ValueError, match="cannot be read"):
        read_inert(_archive(tmp_path / "a.pth", program))
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")
    assert pickle.loads(program) is torch._utils._rebuild_tensor_v2
    assert torch._utils._rebuild_tensor_v2.__dict__.pop("evil") == 1


def test_numbers_outside_the_storage_are_not_read(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (program_name,) = [name for name in entries if name.endswith("data.pkl")]
    # The size of the tensor, a tuple of one small integer, becomes 200; the storage keeps its 4 numbers.
    assert entries[program_name].count(b"K\x00K\x04\x85") == 1
    entries[program_name] = entries[program_name].replace(b"K\x00K\x04\x85", b"K\x00K\xc8\x85")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert read_inert(tmp_path / "a.pth")["a"].shape == (4,)
    with pytest.raises(ValueError, match="out of bounds"):
        read_inert(tmp_path / "b.pth")


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_tensors_of_every_kind_come_out_as_torch_reads_them(zipped: bool, tmp_path: Path) -> None:
    shared = torch.arange(24, dtype=torch.float32)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]
    tensors = {str(kind): torch.arange(5).to(kind) for kind in [*kinds, torch.uint8, torch.bool]}
    tensors |= {
        "part": shared[6:18],
        "turned": shared.view(4, 6).t(),
        "empty": torch.empty(0),
        "one": torch.tensor(3.0),
    }
    torch.save(tensors, tmp_path / "t.pth", _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "t.pth", weights_only=True)
    found = read_inert(tmp_path / "t.pth")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_buffers_that_are_not_kept_are_left_out(tmp_path: Path) -> None:
    layer = nn.Module()
    layer.register_buffer("kept", torch.ones(2))
    layer.register_buffer("scratch", torch.zeros(2), persistent=False)
    layer.register_parameter("none", None)
    torch.save(nn.Sequential(layer, nn.Linear(2, 1)), tmp_path / "m.pth")
    assert set(read_inert(tmp_path / "m.pth")) == {"0.kept", "1.weight", "1.bias"}


# ---------------------------------------------------------------- what is refused


def test_whole_modules_that_are_cut_off(tmp_path: Path, foreign: Any, mfn_state: State) -> None:
    path = foreign.save(foreign.look_alike(mfn_state), tmp_path / "a.pth", zipped=False)
    content = path.read_bytes()
    for length in (10, 50, 5_000, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cannot be read"):
            read_inert(tmp_path / "cut.pth")


def test_archives_that_pytorch_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compressed"):
        read_inert(_archive(tmp_path / "a", pickle.dumps(bytes(10_000)), zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read_inert(tmp_path / "b")


def test_a_module_that_holds_itself(tmp_path: Path) -> None:
    module = nn.Module()
    module._modules["again"] = module
    torch.save(module, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="recursion"):
        read_inert(tmp_path / "a.pth")
