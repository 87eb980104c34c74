"""A synthetic set and settings with which a job takes a second: a network is given one batch of tiny images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ddamfn.data import open_dataset
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare
from ddamfn.synthetic import write_synthetic_folder

CLASSES = ("neutral", "happiness", "surprise")
SIDE_PX = 32
SETTINGS = (
    f"data.alignment.side_px={SIDE_PX}",
    f'phases=[{{"epochs":1,"side_px":{SIDE_PX},"batch_size":18}}]',
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _thin(thin_trunk: object) -> None:
    """What is tested here is the training of networks, not the networks: ask for `whole_trunk` where it is."""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic faces of each of three classes to train on, three to validate on, three to test on."""
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    return write_synthetic_folder(folder, 6, np.random.default_rng(1), 64, CLASSES)


@pytest.fixture(scope="session")
def faces(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic faces, prepared."""
    folder = tmp_path_factory.mktemp("prepared") / "faces"
    return prepare(open_dataset(drawn), folder, Alignment("ddamfn_frontal", side_px=SIDE_PX), workers=1).folder


@pytest.fixture
def arguments(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return the function that makes a command line of `ddamfn study`, with everything below one folder."""
    # The tree may get another commit while a test compares two reports.
    monkeypatch.setattr("ddamfn.train.run_folder.commit", lambda: "abc")

    def make(*words: str) -> list[str]:
        places = ["--data", str(faces), "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "report")]
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return ["study", *words, *places, *settings, "--recipe", "ddamfn_quick", "--device", "cpu"]

    return make
