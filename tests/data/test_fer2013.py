"""FER2013's csv: rows that are read where they stand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.fer2013 import open_fer2013
from ddamfn.errors import DataError, UnreadableImage


@pytest.fixture
def root(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("fer2013")


def test_pixels_are_those_of_the_row(root: Path) -> None:
    dataset = open_fer2013(root)
    lines = (root / "fer2013.csv").read_text().splitlines()[1:]
    assert len(dataset.samples) == len(lines) == 21
    for sample, line in zip(dataset.samples, lines, strict=True):
        number, pixels, usage = line.split(",")
        assert sample.label == dataset.card.label(int(number))
        assert sample.split == {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}[usage]
        image = dataset.read(sample)
        assert isinstance(image, np.ndarray)
        assert image.shape == (48, 48, 3)
        assert image[..., 0].ravel().tolist() == [int(v) for v in pixels.split()]
        assert (image[..., 0] == image[..., 2]).all()


def test_the_file_itself_and_its_other_spelling(root: Path) -> None:
    expected = [(s.key, s.label) for s in open_fer2013(root).samples]
    rows = [line.split(",") for line in (root / "fer2013.csv").read_text().splitlines()[1:]]
    other = root / "icml_face_data.csv"
    other.write_text("emotion, Usage, pixels\r\n" + "\r\n".join(f"{e},{u},{p}" for e, p, u in rows) + "\r\n")
    (root / "fer2013.csv").unlink()
    dataset = open_fer2013(root)
    assert [(s.key, s.label) for s in dataset.samples] == expected
    assert np.asarray(dataset.read(dataset.samples[-1])).shape == (48, 48, 3)
    assert open_fer2013(other).samples == dataset.samples


@pytest.mark.parametrize("pixels", ["1 2 3", " ".join(["256"] * 2304), " ".join(["x"] * 2304), " ".join(["-1"] * 2304)])
def test_a_damaged_row_is_one_unreadable_image(root: Path, pixels: str) -> None:
    with (root / "fer2013.csv").open("a") as file:
        file.write(f"3,{pixels},Training\n")
    dataset = open_fer2013(root)
    with pytest.raises(UnreadableImage, match=r"fer2013\.csv: the row at byte"):
        dataset.read(dataset.samples[-1])
    assert np.asarray(dataset.read(dataset.samples[-2])).shape == (48, 48, 3)


@pytest.mark.parametrize("row", ["7,0 0,Training", "3,0 0,Holiday", "happy,0 0,Training", "3"])
def test_a_row_without_a_label_stops(root: Path, row: str) -> None:
    with (root / "fer2013.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match="data row 21 is malformed"):
        open_fer2013(root)


def test_a_wrong_header(root: Path) -> None:
    (root / "fer2013.csv").write_text("a,b,c\n")
    with pytest.raises(DataError, match="must name emotion, pixels and Usage"):
        open_fer2013(root)
