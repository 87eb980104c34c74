"""A folder of small photographs, and the program that reads them with the stand-in network."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli import main

DETECTION = 160
"""One look at few pixels: these tests are not about finding faces."""


@pytest.fixture(scope="session")
def drawn(head: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 24 heads of different light, one image of nothing, and one that is none: not to be changed."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "b").mkdir()
    for number in range(24):
        pixels = (head * (1 - number / 60)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("b" if number % 3 else ".") / f"{number:02}.png", compress_level=1)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "black.png")
    (folder / "text.jpg").write_text("not an image\n")
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def photos(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a link to that folder below the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(drawn, target_is_directory=True)
    return tmp_path / "photos"


@pytest.fixture
def predict(stand_in_weights: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Run the verb and return exit status and the lines on standard error."""

    def call(*arguments: str) -> tuple[int, list[str]]:
        options = ("--weights", str(stand_in_weights), "--detection", str(DETECTION))
        capfd.readouterr()
        status = main(["predict", *arguments, *options])
        return status, capfd.readouterr().err.splitlines()

    return call


@pytest.fixture
def rows_of() -> Callable[[str | os.PathLike[str]], list[tuple[Any, ...]]]:
    """Return what reads all rows of a folder of shards, sorted: what must not depend on who wrote them."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")

    def read(folder: str | os.PathLike[str]) -> list[tuple[Any, ...]]:
        rows = [tuple(row.values()) for row in parquet.read_table(folder).to_pylist()]
        return sorted(rows, key=lambda row: (row[0], row[1] or 0))

    return read
