"""Read the tensors of a `torch.save` file that holds whole Python objects, without running any code of it.

A pickle is a program that may call any function. This unpickler knows three harmless names; every other one becomes a
class that only keeps its arguments, from which tensors and modules are then built.

Source: the `pickletools` module for what each opcode may call; `torch.serialization` for the two file layouts.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First value of a file of PyTorch before 1.6: five pickles, followed by the raw values."""

_PLAIN_TYPES: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}

_TENSOR_BUILDERS = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
_PARAMETER_BUILDERS = frozenset({"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"})


class _Inert:
    """Stands for any object or function result: keeps the arguments."""

    origin: str
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_named: Any) -> "_Inert":
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    # Subclasses of list and dict are filled through these two; their items are never needed.
    def append(self, _item: Any) -> None:
        """Ignore a list's item."""

    def __setitem__(self, _key: Any, _value: Any) -> None: ...


@dataclass(frozen=True)
class _Storage:
    """A range of raw values elsewhere in the file."""

    key: str
    dtype: torch.dtype
    length: int

    @property
    def size_bytes(self) -> int:
        return self.length * self.dtype.itemsize

    def to_tensor(self, content: bytes) -> Tensor:
        if len(content) != self.size_bytes:
            raise ValueError(f"storage {self.key} has {len(content)} bytes in place of {self.size_bytes}")
        return torch.frombuffer(bytearray(content), dtype=self.dtype) if content else torch.empty(0, dtype=self.dtype)


class _InertUnpickler(pickle.Unpickler):
    """Builds plain containers, numbers, strings and `_Inert`; collects the storages that the pickle refers to."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type:
        plain = _PLAIN_TYPES.get((module, name))
        # A new class each time, never a real function of torch: a pickle can also write attributes of what it named.
        return plain if plain is not None else type("Inert", (_Inert,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        kind, first, *rest = pid
        if kind == "module":  # PyTorch before 1.6 wraps each class of a module together with its source text
            return first
        if kind != "storage" or (len(rest) > 3 and rest[3] is not None):
            raise ValueError("it holds a kind of object that is not known here")
        key, _location, length = rest[:3]
        library, _, type_name = first.origin.rpartition(".")
        if library not in ("torch", "torch.cuda") or type_name not in _DTYPES:
            raise ValueError(f"numbers of type {first.origin} are not known here")
        storage = _Storage(str(key), _DTYPES[type_name], int(length))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is described in two ways")
        return storage


def read_inert(path: Path) -> Any:
    """Return a `torch.save` file as nested dictionaries of tensors, without running any code of it.

    A module becomes its state dict, and other objects become None. Raises ValueError, in one line, for a damaged or
    unknown file.
    """
    with path.open("rb") as file:
        try:
            root, numbers = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
            return _to_plain(root, numbers)
        # A damaged or hostile pickle can fail anywhere: with a wrong type, too deep a recursion, an index out of range.
        except Exception as error:
            raise ValueError(f"{path}: cannot be read as a PyTorch file: {error or type(error).__name__}") from error


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, Tensor]]:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        # PyTorch never compresses; an entry that is compressed could unpack to any size.
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise ValueError("its archive is compressed, which PyTorch never does")
        program = next((name for name in entries if name.endswith("/data.pkl")), None)
        if program is None:
            raise ValueError("its archive holds no data.pkl")
        folder = program.removesuffix("data.pkl")
        if folder + "byteorder" in entries and archive.read(folder + "byteorder").strip() != b"little":
            raise ValueError("its numbers are big-endian")
        unpickler = _InertUnpickler(io.BytesIO(archive.read(program)))
        root = unpickler.load()
        contents = {s.key: s.to_tensor(archive.read(f"{folder}data/{s.key}")) for s in unpickler.storages.values()}
    return root, contents


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, Tensor]]:
    file.seek(0)
    if _InertUnpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError("it is neither of PyTorch's two layouts")
    _InertUnpickler(file).load()  # version of the layout
    if not _InertUnpickler(file).load().get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    unpickler = _InertUnpickler(file)
    root = unpickler.load()
    contents = {}
    for key in _InertUnpickler(file).load():
        storage = unpickler.storages[key]
        if struct.unpack("<q", file.read(8))[0] != storage.length:
            raise ValueError(f"storage {key} has another length than announced")
        contents[key] = storage.to_tensor(file.read(storage.size_bytes))
    return root, contents


def _to_plain(value: Any, numbers: dict[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_plain(item, numbers) for key, item in value.items()}
    if isinstance(value, _Inert):
        tensor = _to_tensor(value, numbers)
        return dict(_walk(value, numbers, "")) if tensor is None else tensor
    return None


def _to_tensor(value: Any, numbers: dict[str, Tensor]) -> Tensor | None:
    """Build what torch's own rebuilding function would have built; None for any other object."""
    origin = getattr(value, "origin", "")
    if origin in _PARAMETER_BUILDERS:
        return _to_tensor(value.args[0], numbers)
    if origin not in _TENSOR_BUILDERS:
        return None
    storage, offset, size, stride = value.args[:4]
    # `as_strided` itself refuses to reach outside its storage.
    return numbers[storage.key].as_strided([int(n) for n in size], [int(n) for n in stride], int(offset))


def _walk(module: _Inert, numbers: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's named parameters and buffers, as `Module.state_dict` orders them; nothing for other objects."""
    state = module.state if isinstance(module.state, Mapping) else {}
    hidden = state.get("_non_persistent_buffers_set", ())
    for name, value in [*state.get("_parameters", {}).items(), *state.get("_buffers", {}).items()]:
        tensor = None if name in hidden else _to_tensor(value, numbers)
        if tensor is not None:
            yield f"{prefix}{name}", tensor
    for name, child in state.get("_modules", {}).items():
        if isinstance(child, _Inert):
            yield from _walk(child, numbers, f"{prefix}{name}.")
