"""A synthetic FERPlus and the stand-in weights' classifier, shared by the tests of evaluation."""

from pathlib import Path

import numpy as np
import pytest

from ddamfn.classifier import Classifier
from ddamfn.synthetic import write_synthetic_ferplus


@pytest.fixture(scope="session")
def drawn_ferplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One drawing of each expression in test and val, two in train."""
    return write_synthetic_ferplus(tmp_path_factory.mktemp("drawn") / "ferplus", 2, np.random.default_rng(5))


@pytest.fixture(scope="session")
def classifier(stand_in_weights: Path) -> Classifier:
    """The stand-in weights, opened once."""
    return Classifier(stand_in_weights, num_threads=1)
