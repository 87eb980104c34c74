"""What every test may use: a fixed seed, a generator, and FERPlus where this machine has it."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

_FERPLUS_PARTS = ("FER2013Train", "FER2013Valid", "FER2013Test")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Seed the global generators, which libraries may use behind a test's back."""
    random.seed(20240229)
    np.random.seed(20240229)  # noqa: NPY002 - the old global state is the point here
    # PyTorch takes seconds to import, so only those tests that have it loaded pay for it.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(20240229)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a fresh generator with a fixed seed."""
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session")
def ferplus_root() -> Path:
    """Return the folder of the official FERPlus archives or folders; skip where there is none.

    The folder named by DDAMFN_FERPLUS counts, else `shared/data/ferplus` beside the checkout.
    """
    named = os.environ.get("DDAMFN_FERPLUS")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data" / "ferplus"
    missing = [n for n in _FERPLUS_PARTS if not (root / n).is_dir() and not (root / f"{n}.zip").is_file()]
    if missing:
        pytest.skip(f"needs FERPlus, and {root} lacks {', '.join(missing)}; name its folder in DDAMFN_FERPLUS")
    return root
