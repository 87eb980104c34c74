"""Facial expressions from photographs.

`Recognizer` reads images with the weights that come with the package; `create_model` and `list_models` give the
networks themselves, with trained weights if wanted (these two need the extra "train").
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ddamfn.environment import report_nothing

if TYPE_CHECKING:
    from ddamfn.export.loading import create_model
    from ddamfn.models import list_models
    from ddamfn.recognizer import Recognizer
    from ddamfn.video import read_video

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__", "create_model", "list_models", "read_video"]

# Here, since every import of any part of this package passes here before it can import a library.
report_nothing()

# Looked up on first use: `import ddamfn` must not cost PyTorch's five seconds, nor need PyTorch at all.
_HOMES = {
    "Recognizer": "ddamfn.recognizer",
    "create_model": "ddamfn.export.loading",
    "list_models": "ddamfn.models",
    "read_video": "ddamfn.video",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use.

    Raises:
        AttributeError: the package has no such name.
        MissingExtra: the name needs PyTorch, which is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'ddamfn' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from ddamfn.errors import MissingExtra

        raise MissingExtra("train", "torch") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those not imported yet included."""
    return sorted(__all__)
