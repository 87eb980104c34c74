"""Files of the authors: every kind is read, none is run, and what does not fit is said in one line."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models.ddamfn import DDAMFN
from ddamfn.models.inert_pickle import read_inert
from ddamfn.models.legacy import load_authors_checkpoint
from ddamfn.models.mfn import MFN

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def ddamfn_state(authors_state: Callable[..., State]) -> State:
    return authors_state(seed=1)


@pytest.fixture(scope="module")
def mfn_state(authors_state: Callable[..., State]) -> State:
    return authors_state("mfn", seed=1)


@pytest.fixture
def foreign_module() -> Iterator[types.ModuleType]:
    """Import a library, `networks.MixedFeatureNet`, that exists only until a test has written its file."""
    library = types.ModuleType("networks.MixedFeatureNet")
    for name in ("MixedFeatureNet", "Layer"):
        setattr(library, name, type(name, (nn.Module,), {"__module__": library.__name__}))
    sys.modules["networks"] = types.ModuleType("networks")
    sys.modules[library.__name__] = library
    yield library
    sys.modules.pop("networks", None)
    sys.modules.pop(library.__name__, None)


def _look_alike(library: types.ModuleType, state: State) -> nn.Module:
    """A module of the foreign library whose `state_dict()` has these names."""
    root: nn.Module = library.MixedFeatureNet()
    for name, value in state.items():
        *path, leaf = name.split(".")
        owner = root
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, library.Layer())
            owner = owner._modules[part]
        if "running" in leaf or "tracked" in leaf:
            owner.register_buffer(leaf, value)
        else:
            owner.register_parameter(leaf, nn.Parameter(value))
    return root


def _save_module(library: types.ModuleType, module: nn.Module, path: Path, *, zipped: bool) -> Path:
    torch.save(module, path, _use_new_zipfile_serialization=zipped)
    del sys.modules[library.__name__], sys.modules["networks"]
    return path


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
    assert torch.equal(network.trunk.stage6[5].mix.convs[2].weight, _last_kernel(ddamfn_state))


def _last_kernel(state: State) -> Tensor:
    return state["features.7.model.5.conv_dw.mixed_depthwise_conv.2.weight"]


@pytest.mark.parametrize(("heads", "num_classes"), [(1, 7), (3, 8), (5, 2)])
def test_heads_and_classes_are_found(
    heads: int, num_classes: int, tmp_path: Path, authors_state: Callable[..., State]
) -> None:
    torch.save(authors_state(heads=heads, num_classes=num_classes), tmp_path / "a.pth")
    network = load_authors_checkpoint(tmp_path / "a.pth")
    assert isinstance(network, DDAMFN)
    assert len(network.ddan.heads) == heads
    assert network.num_classes == num_classes


def test_dead_entries_are_not_needed(tmp_path: Path, ddamfn_state: State) -> None:
    dead = (".conv_dw.bn.", ".conv_dw.prelu.", ".CoordAtt.Linear.")
    lean = {n: v for n, v in ddamfn_state.items() if not n.startswith("bn.") and not any(part in n for part in dead)}
    assert len(lean) < len(ddamfn_state) - 200
    torch.save(lean, tmp_path / "lean.pth")
    assert isinstance(load_authors_checkpoint(tmp_path / "lean.pth"), DDAMFN)


def test_half_precision_is_read_as_float32(tmp_path: Path, ddamfn_state: State) -> None:
    torch.save({n: v.half() if v.is_floating_point() else v for n, v in ddamfn_state.items()}, tmp_path / "half.pth")
    weight = load_authors_checkpoint(tmp_path / "half.pth").trunk.stem.conv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, ddamfn_state["features.0.conv.weight"].half().float())


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_whole_pickled_mfn(zipped: bool, tmp_path: Path, foreign_module: types.ModuleType, mfn_state: State) -> None:
    path = tmp_path / "MFN_msceleb.pth"
    _save_module(foreign_module, _look_alike(foreign_module, mfn_state), path, zipped=zipped)
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


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_whole_pickled_ddamfn_in_data_parallel(
    zipped: bool, tmp_path: Path, foreign_module: types.ModuleType, ddamfn_state: State
) -> None:
    state = {f"module.{name}": value for name, value in ddamfn_state.items()}
    path = _save_module(foreign_module, _look_alike(foreign_module, state), tmp_path / "all.pth", zipped=zipped)
    network = load_authors_checkpoint(path)
    assert torch.equal(network.trunk.stage6[5].mix.convs[2].weight, _last_kernel(ddamfn_state))


def test_trunk_of_mfn_fits_ddamfn(tmp_path: Path, mfn_state: State) -> None:
    torch.save(mfn_state, tmp_path / "mfn.pth")
    network = DDAMFN(num_classes=7)
    network.trunk.load_state_dict(load_authors_checkpoint(tmp_path / "mfn.pth").trunk.state_dict())
    assert torch.equal(network.trunk.expand.conv.weight, mfn_state["conv_6_sep.conv.weight"])


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


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_calls_inside_a_pickled_module_do_not_run(
    zipped: bool, tmp_path: Path, foreign_module: types.ModuleType, mfn_state: State
) -> None:
    marker = tmp_path / "marker"
    module = _look_alike(foreign_module, mfn_state)
    module.note = _touch(marker)[0]
    module.conv1.note = _touch(marker)[1]
    path = _save_module(foreign_module, module, tmp_path / "evil.pth", zipped=zipped)
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
        ({"features.3.model.9.CA.conv1.bias": torch.zeros(8)}, "unexpected features.3.model.9.CA.conv1.bias$"),
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


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_whole_modules_that_are_cut_off(tmp_path: Path, foreign_module: types.ModuleType, mfn_state: State) -> None:
    path = _save_module(foreign_module, _look_alike(foreign_module, mfn_state), tmp_path / "a.pth", zipped=False)
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


def test_a_missing_file_is_said_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_authors_checkpoint(tmp_path / "none.pth")
