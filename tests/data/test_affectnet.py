"""AffectNet: arrays beside the images, or csv tables with boxes; seven or eight classes."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.affectnet import open_affectnet
from ddamfn.errors import DataError, UsageError


@pytest.fixture
def arrays(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("affectnet")


@pytest.fixture
def tables(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("affectnet-manual")


def test_arrays(arrays: Path) -> None:
    dataset = open_affectnet(arrays)
    assert dataset.splits == ("train", "val")
    assert [s.label for s in dataset.select("train").samples] == list(dataset.classes)
    assert dataset.samples[0].key == "train_set/images/0.jpg"


def test_images_stand_in_the_order_of_their_numbers(arrays: Path) -> None:
    for name in ("10", "9", "100"):
        np.save(arrays / "val_set" / "annotations" / f"{name}_exp.npy", np.array(3))
    keys = [Path(s.key).stem for s in open_affectnet(arrays).select("val").samples]
    assert keys == [*map(str, range(8)), "9", "10", "100"]
    assert open_affectnet(arrays).samples[-1].label == "surprise"


def test_numbers_without_an_expression_are_left_out_and_counted(arrays: Path) -> None:
    for name, number in (("50", "8"), ("51", "10")):
        np.save(arrays / "val_set" / "annotations" / f"{name}_exp.npy", np.array(number))
    dataset = open_affectnet(arrays)
    assert len(dataset.samples) == 16
    assert "2 images without" in dataset.note
    np.save(arrays / "val_set" / "annotations" / "52_exp.npy", np.array("11"))
    with pytest.raises(DataError, match=r"52\.jpg: 11 "):
        open_affectnet(arrays)


@pytest.mark.parametrize("layout", ["arrays", "tables"])
def test_seven_classes_leave_contempt_out(layout: str, request: pytest.FixtureRequest) -> None:
    dataset = open_affectnet(request.getfixturevalue(layout), classes=7)
    assert "contempt" not in dataset.classes
    assert len(dataset.samples) == 14
    assert {s.label for s in dataset.samples} == set(dataset.classes)


def test_tables(tables: Path) -> None:
    dataset = open_affectnet(tables)
    with (tables / "training.csv").open() as file:
        row = next(csv.DictReader(file))
    sample = dataset.samples[0]
    assert sample.key == row["subDirectory_filePath"]
    x, y, width, height = (float(row[f"face_{name}"]) for name in ("x", "y", "width", "height"))
    assert sample.bbox == (x, y, x + width, y + height)
    assert dataset.read(sample) == (tables / "Manually_Annotated_Images" / sample.key).read_bytes()
    assert len(dataset.samples) == 16
    # The rows 8, 9 and 10 of the synthetic tables repeat images of the training and the validation list.
    assert "6 images without" in dataset.note


def test_a_table_without_header_and_in_its_own_folder(tables: Path) -> None:
    expected = open_affectnet(tables).samples
    lists = tables / "Manually_Annotated_file_lists"
    lists.mkdir()
    for name in ("training.csv", "validation.csv"):
        lines = (tables / name).read_text().splitlines(keepends=True)
        (lists / name).write_text("".join(lines if name == "training.csv" else lines[1:]))
        (tables / name).unlink()
    assert open_affectnet(tables).samples == expected


def test_boxes_without_numbers(tables: Path) -> None:
    path = tables / "validation.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[1:5] = ["NULL"] * 4
    path.write_text("\n".join([lines[0], ",".join(cells)]))
    assert open_affectnet(tables).select("val").samples[0].bbox is None


def test_damaged_annotations(arrays: Path, tables: Path) -> None:
    path = arrays / "train_set" / "annotations" / "3_exp.npy"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"3_exp\.npy: cannot be read"):
        open_affectnet(arrays)
    with (tables / "validation.csv").open("a") as file:
        file.write("1/a.jpg,1,1,1,1,,happy,0,0\n")
    with pytest.raises(DataError, match=r"validation\.csv:\d+: malformed"):
        open_affectnet(tables)
    (tables / "training.csv").write_text("subDirectory_filePath,expression\n1/a.jpg,1\n")
    with pytest.raises(DataError, match="the column face_x is missing"):
        open_affectnet(tables)


def test_bad_arguments(arrays: Path) -> None:
    with pytest.raises(UsageError, match="7 or 8"):
        open_affectnet(arrays, classes=6)
