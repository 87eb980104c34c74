"""PyAV, asked for late and by one name, so that a missing extra is one line."""

import importlib
from types import ModuleType

from ddamfn.errors import MissingExtra


def load_av() -> ModuleType:
    """Return the module `av`.

    Raises:
        MissingExtra: PyAV is not installed.
    """
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        # Anything else that is missing is a broken installation, which "install PyAV" would not mend.
        if error.name != "av":
            raise
        raise MissingExtra("video", "av") from None
