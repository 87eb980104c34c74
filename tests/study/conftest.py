"""A drawn set and settings with which a job takes a second or two."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ddamfn.data import open_dataset
from ddamfn.data.synthetic import write_drawn_folder
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare

CLASSES = ("neutral", "happiness", "surprise", "anger")
SIDE_PX = 32
SETTINGS = (
    f"data.alignment.side_px={SIDE_PX}",
    'phases=[{"epochs":1,"side_px":32,"batch_size":16}]',
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn faces of each of four classes to train on, four to validate on, four to test on, prepared."""
    root = write_drawn_folder(tmp_path_factory.mktemp("drawn") / "faces", 8, np.random.default_rng(1), 64, CLASSES)
    folder = tmp_path_factory.mktemp("prepared") / "faces"
    return prepare(open_dataset(root), folder, Alignment("ddamfn_frontal", side_px=SIDE_PX), workers=1).folder


@pytest.fixture
def arguments(faces: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the function that makes a command line of `ddamfn study`, with everything below one folder."""

    def make(*words: str) -> list[str]:
        places = ["--data", str(faces), "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "report")]
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return ["study", *words, *places, *settings, "--recipe", "ddamfn_quick", "--device", "cpu"]

    return make
