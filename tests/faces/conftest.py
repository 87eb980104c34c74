"""The demo's portrait, for the tests of this package."""

from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.faces import decode


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """Return the portrait, (512, 512, 3) uint8 RGB, one smiling face; read-only."""
    image = decode(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    image.flags.writeable = False
    return image
