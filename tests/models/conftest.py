"""The authors' names and shapes, and weights for them that anyone can make again."""

import json
import math
import re
import sys
import types
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import create_network

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

AuthorsState = Callable[..., dict[str, Tensor]]
_LATER_BLOCK = re.compile(r"\.model\.[1-9]")

# Few of the equal layers of the large networks, or narrow ones.
_LIGHT = {
    "dacl": {"attention_width": 64},
    "mvit": {"mask_depth": 1, "depth": 2},
    "poster": {"depth": 2},
    "transfer": {"depth": 2},
}


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, list[int]]]:
    """Yield name and shape; a branch named `block0..3` stands for four equal ones."""
    for key, value in tree.items():
        run = re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", key)
        names = [f"{run[1]}{n}" for n in range(int(run[2]), int(run[3]) + 1)] if run else [key]
        for name in names:
            if isinstance(value, dict):
                yield from _leaves(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value


def authors_shapes(network: str, heads: int = 2, num_classes: int = 7) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every entry of the authors' DDAMNet or MixedFeatureNet, dead ones included."""
    tree = json.loads((GOLDEN / "authors_state_dict.json").read_text())[network]
    if network == "ddamfn":
        tree[f"cat_head0..{heads - 1}"] = tree.pop("cat_head0..1")
        tree["fc"] = {"weight": [num_classes, 512], "bias": [num_classes]}
        tree["bn"] = {name: [num_classes] if shape else [] for name, shape in tree["bn"].items()}
    return {name: tuple(shape) for name, shape in _leaves(tree)}


def _fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.array(0)
    # The old generator is frozen: its numbers will be the same in every version of NumPy.
    generator = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    numbers = generator.standard_normal(math.prod(shape)).reshape(shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * abs(numbers)
    if len(shape) >= 2:
        gain = 4 if ".conv2." in name or ".conv3." in name else 1
        return gain * numbers / math.sqrt(math.prod(shape[1:]))
    if name.endswith(("running_mean", "bias")):
        return 0.1 * numbers
    return 0.05 * numbers + (0.25 if ".prelu." in "." + name else 1)


def fill(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Weights that depend on name, shape and seed alone."""
    state = {name: torch.from_numpy(_fill(name, shape, seed)) for name, shape in shapes.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


@pytest.fixture(scope="session")
def light_network() -> Callable[..., nn.Module]:
    """Return what makes a network with few of its equal layers, from its name, its classes and a seed."""

    def make(name: str, num_classes: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return create_network(name, num_classes=num_classes, **_LIGHT.get(name, {}))

    return make


@pytest.fixture(scope="session")
def authors_state() -> AuthorsState:
    """Return a function that makes the state dictionary of one of the authors' networks.

    A short one has the first of equal blocks alone, for `short_trunk`.
    """

    def make(
        network: str = "ddamfn", *, heads: int = 2, num_classes: int = 7, seed: int = 0, short: bool = False
    ) -> dict[str, Tensor]:
        shapes = authors_shapes(network, heads, num_classes)
        return fill({name: shape for name, shape in shapes.items() if not (short and _LATER_BLOCK.search(name))}, seed)

    return make


@pytest.fixture(scope="session")
def golden_outputs() -> dict[str, Any]:
    """Return what the authors' networks answered with those weights."""
    outputs: dict[str, Any] = json.loads((GOLDEN / "ddamfn_outputs.json").read_text())
    return outputs


@pytest.fixture(scope="session")
def golden_images() -> Callable[[int], Tensor]:
    """Return a function that makes the two images of a seed."""

    def make(seed: int) -> Tensor:
        numbers = np.random.RandomState(seed).standard_normal((2, 3, 112, 112))
        return torch.from_numpy(numbers.astype("float32"))

    return make


@pytest.fixture(scope="session")
def ddamfn_state(authors_state: AuthorsState) -> dict[str, Tensor]:
    """Return weights under the authors' names: two heads, seven classes, short."""
    return authors_state(seed=1, short=True)


@pytest.fixture(scope="session")
def mfn_state(authors_state: AuthorsState) -> dict[str, Tensor]:
    """Return weights of MFN under the authors' names, short."""
    return authors_state("mfn", seed=1, short=True)


class ForeignLibrary:
    """Classes that exist only until a test has written its file, as the authors' exist only in their own checkout."""

    def __init__(self) -> None:
        self.package, self.module = types.ModuleType("networks"), types.ModuleType("networks.MixedFeatureNet")
        for name in ("MixedFeatureNet", "Layer"):
            setattr(self.module, name, type(name, (nn.Module,), {"__module__": self.module.__name__}))

    def look_alike(self, state: dict[str, Tensor]) -> nn.Module:
        """Make a module of these classes whose `state_dict()` has the given names."""
        root: nn.Module = self.module.MixedFeatureNet()
        for name, value in state.items():
            *path, leaf = name.split(".")
            owner = root
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, self.module.Layer())
                owner = owner.get_submodule(part)
            if "running" in leaf or "tracked" in leaf:
                owner.register_buffer(leaf, value)
            else:
                owner.register_parameter(leaf, nn.Parameter(value))
        return root

    def save(self, module: nn.Module, path: Path, *, zipped: bool) -> Path:
        """Pickle the whole module; after that nobody can import its classes."""
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            # The older layout also stores source text, which a class without a file has not.
            warnings.filterwarnings("ignore", "Couldn't retrieve source code")
            for library in (self.package, self.module):
                patch.setitem(sys.modules, library.__name__, library)
            torch.save(module, path, _use_new_zipfile_serialization=zipped)
        return path


@pytest.fixture
def foreign() -> ForeignLibrary:
    """Return a library with which whole modules are pickled."""
    return ForeignLibrary()
