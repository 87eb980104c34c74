"""Tiny synthetic faces as tensors and as a prepared set, and runs that take seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddamfn.data import open_dataset
from ddamfn.faces import Alignment, align
from ddamfn.labels import EXPRESSIONS
from ddamfn.preparation import Prepared, prepare
from ddamfn.synthetic import synthetic_face, write_synthetic_folder
from ddamfn.train import Run, override, recipe
from ddamfn.train.tensorset import TensorSplit

SIDE_PX = 32


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Equal sums need equal threads, and tiny images are slower with several."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _thin(thin_trunk: object) -> None:
    """What is tested here is the training of a network, not the network: ask for `whole_trunk` where it is."""


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int, int, int, int]] = []
        self.steps: list[tuple[int, float | None, float | None]] = []
        self.rows: list[dict[str, Any]] = []

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        self.epochs.append((epoch, epochs, images, done, side_px))

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        self.steps.append((images, loss, accuracy))

    def epoch_done(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


@pytest.fixture
def reporter() -> Silent:
    return Silent()


def drawn_split(per_class: int, seed: int, classes: tuple[str, ...] = EXPRESSIONS) -> TensorSplit:
    """Draw faces and align them by the landmarks that they were drawn with."""
    generator = np.random.default_rng(seed)
    alignment = Alignment("ddamfn_frontal", side_px=SIDE_PX)
    crops = []
    for _ in range(per_class):
        for label in classes:
            pixels, landmarks = synthetic_face(label, generator, 64)
            crops.append(align(pixels, landmarks, alignment).pixels.transpose(2, 0, 1))
    labels = torch.arange(len(classes)).repeat(per_class)
    return TensorSplit(
        torch.from_numpy(np.stack(crops)),
        torch.eye(len(classes))[labels],
        tuple(f"{seed}/{i}" for i in range(len(crops))),
        classes,
        f"drawing {seed}",
    )


@pytest.fixture(scope="session")
def draw() -> Callable[..., TensorSplit]:
    """Return the function that draws a split: images a class, seed, classes."""
    return drawn_split


@pytest.fixture(scope="session")
def splits() -> tuple[TensorSplit, TensorSplit]:
    """Sixteen synthetic faces to train on and eight to validate on, of 32 px."""
    return drawn_split(2, seed=1), drawn_split(1, seed=2)


def tiny_run(**assignments: Any) -> Run:
    """A run of two epochs on 32 px; names with two underscores stand for dotted ones.

    Its network lacks mixed kernels and coordinate attention, which take half of the time.
    """
    defaults = {
        "model.options": {"num_heads": 2, "mixed_kernels": False, "coordinate_attention": False},
        "data.alignment.side_px": SIDE_PX,
        "phases": [{"epochs": 2, "side_px": SIDE_PX, "batch_size": 8}],
        "checkpoint_steps": 1,
    }
    return override(recipe("ddamfn_quick"), {**defaults, **{k.replace("__", "."): v for k, v in assignments.items()}})


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Return `tiny_run`."""
    return tiny_run


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A prepared synthetic set of eight classes at 64 px: four images a class in train, two in val and test."""
    root = write_synthetic_folder(tmp_path_factory.mktemp("drawn") / "set", 4, np.random.default_rng(5), side_px=64)
    out = tmp_path_factory.mktemp("prepared") / "set"
    return prepare(open_dataset(root), out, Alignment("ddamfn_frontal", side_px=64), workers=1)


@pytest.fixture(scope="session")
def drawn_root(prepared: Prepared) -> Path:
    """The same set's folder, as `--data` takes it."""
    return prepared.folder
