"""AffectNet in its two layouts: NumPy annotations beside the images (2021), and tables of whole photographs (before).

Source: Mollahosseini, Hasani, Mahoor 2019; the readme files of the releases.
"""

import csv
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddamfn.data.catalog import AFFECTNET, AFFECTNET_7, DatasetCard
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.errors import DataError, UsageError

log = logging.getLogger(__name__)

_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression")
_TABLES = {"train": "training.csv", "val": "validation.csv"}
_TABLE_FOLDERS = ("", "Manually_Annotated_file_lists", "Manually_Annotated")
_IMAGE_FOLDERS = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated", "")
_NO_EXPRESSION = range(8, 11)


def is_affectnet(root: Path) -> bool:
    """Tell whether a folder holds one of AffectNet's layouts."""
    return bool(_array_splits(root) or _tables(root))


def open_affectnet(root: Path, classes: int = 8) -> Dataset:
    """Open AffectNet's manual part; `classes` 7 drops contempt.

    Rows marked none, uncertain or no-face are left out and counted in the note.
    """
    if classes not in (7, 8):
        raise UsageError(f"AffectNet is used with 7 or 8 classes, not {classes}")
    card = AFFECTNET if classes == 8 else AFFECTNET_7
    splits = _array_splits(root)
    if splits:
        return _finish(card, _from_arrays(root, splits), FileImages(root), "2021 layout")
    tables = _tables(root)
    if not tables:
        raise DataError(f"{root} holds neither train_set/annotations nor training.csv; give AffectNet's folder")
    images = next(root / name for name in _IMAGE_FOLDERS if (root / name).is_dir())
    rows = (row for split, path in tables.items() for row in _from_table(split, path))
    return _finish(card, rows, FileImages(images), "layout with csv tables")


def _finish(card: DatasetCard, rows: Iterator[tuple[int, Sample]], images: FileImages, layout: str) -> Dataset:
    """Set the label of every sample; an image that is listed twice keeps its later row."""
    labels = card.classes
    kept: dict[str, Sample] = {}
    left_out = 0
    for number, sample in rows:
        if number < len(labels):
            kept[sample.key] = replace(sample, label=labels[number])
        elif number == len(AFFECTNET.own_classes) - 1 or number in _NO_EXPRESSION:
            left_out += 1
        else:
            raise DataError(f"{sample.key}: {number} is not a class of AffectNet (0 to 10)")
    note = f"{layout}; {left_out} images without one of the {len(labels)} expressions left out"
    return Dataset(card, tuple(kept.values()), images, note)


def _array_splits(root: Path) -> dict[str, str]:
    folders = {"train": "train_set", "val": "val_set"}
    return {split: name for split, name in folders.items() if (root / name / "annotations").is_dir()}


def _from_arrays(root: Path, splits: dict[str, str]) -> Iterator[tuple[int, Sample]]:
    for split, folder in splits.items():
        # scandir, not glob: the folder has more than a million files.
        with os.scandir(root / folder / "annotations") as entries:
            stems = [entry.name[: -len("_exp.npy")] for entry in entries if entry.name.endswith("_exp.npy")]
        for stem in sorted(stems, key=lambda s: (len(s), s)):
            path = root / folder / "annotations" / f"{stem}_exp.npy"
            try:
                # The numbers are text in the release, and integers in some copies.
                number = int(np.load(path, allow_pickle=False).item())
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path}: cannot be read ({error}); restore the file") from error
            key = f"{folder}/images/{stem}.jpg"
            yield number, Sample(key=key, split=split, location=key)


def _tables(root: Path) -> dict[str, Path]:
    for folder in _TABLE_FOLDERS:
        found = {split: root / folder / name for split, name in _TABLES.items() if (root / folder / name).is_file()}
        if found and _is_table(next(iter(found.values()))):
            return found
    return {}


def _is_table(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        first = next(csv.reader(file), [])
    return _COLUMNS[0] in first or (len(first) == len(_COLUMNS) + 2 and "/" in first[0])


def _from_table(split: str, path: Path) -> Iterator[tuple[int, Sample]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        # Some copies of validation.csv have no header; the order of the columns is the same.
        columns = {name: i for i, name in enumerate(_COLUMNS)}
        for line, cells in enumerate(csv.reader(file), start=1):
            if line == 1 and _COLUMNS[0] in cells:
                missing = [name for name in (*_COLUMNS[:5], "expression") if name not in cells]
                if missing:
                    raise DataError(f"{path}: the column {missing[0]} is missing")
                columns = {name: i for i, name in enumerate(cells)}
                continue
            try:
                number = int(cells[columns["expression"]])
                name = cells[columns[_COLUMNS[0]]]
            except (ValueError, IndexError):
                raise DataError(f"{path}:{line}: malformed row; download the table again") from None
            bbox = _box([cells[columns[c]] for c in _COLUMNS[1:5]])
            yield number, Sample(key=name, split=split, bbox=bbox, location=name)


def _box(cells: list[str]) -> tuple[float, float, float, float] | None:
    """Return the face's box; None where the table has no numbers for it."""
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        return None
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None
