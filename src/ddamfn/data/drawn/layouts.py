"""Drawn data sets in the layouts of the FER2013 family, as class folders, and as a table: tiny and free to share.

Every writer takes the folder to make, the number of pictures a class in train, and a generator; val and test get half
as many, at least one. Classes take turns, so any first rows of a split hold all of them.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ddamfn.data.drawn.person import sample_person
from ddamfn.data.drawn.series import drawings, grey, held_out, save, write_rows
from ddamfn.labels import EXPRESSIONS, canonical

_FER2013 = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
# FERPlus numbers its pictures through; Valid and Test begin where the official ones do.
_FERPLUS_SPLITS = (
    ("FER2013Train", "Training", 0),
    ("FER2013Valid", "PublicTest", 28638),
    ("FER2013Test", "PrivateTest", 32220),
)


def _ballot(label: str, generator: np.random.Generator) -> list[int]:
    """Return ten votes of which seven to ten go to the label: it wins under every rule."""
    votes = [0] * 10
    winner = int(generator.integers(7, 11))
    votes[EXPRESSIONS.index(label)] = winner
    for other in generator.choice([i for i, name in enumerate(EXPRESSIONS) if name != label], 10 - winner):
        votes[int(other)] += 1
    return votes


def write_drawn_ferplus(root: Path, per_class: int, generator: np.random.Generator, zipped: bool = False) -> Path:
    """Write FERPlus's layout: grey 48x48 PNG, a `label.csv` a split, and `fer2013new.csv`.

    Args:
        root: folder to make.
        per_class: pictures a class in train; half as many in the other two splits.
        generator: source of all chance.
        zipped: write one archive a split instead of folders.

    Returns:
        The root.
    """
    root.mkdir(parents=True, exist_ok=True)
    table: list[list[object]] = [["Usage", "Image name", *EXPRESSIONS, "unknown", "NF"]]
    for folder, usage, first in _FERPLUS_SPLITS:
        count = per_class if usage == "Training" else held_out(per_class)
        files: dict[str, bytes] = {}
        labels = io.StringIO()
        for drawing in drawings(EXPRESSIONS, count, generator, 48):
            name = f"fer{first + drawing.index:07d}.png"
            votes = _ballot(drawing.label, generator)
            picture = io.BytesIO()
            Image.fromarray(grey(drawing.pixels)).save(picture, format="PNG")
            files[name] = picture.getvalue()
            csv.writer(labels, lineterminator="\n").writerow([name, "(0, 0, 48, 48)", *votes])
            table.append([usage, name, *votes])
        # The official table has rows without a picture, so that row numbers and names run apart.
        table.append([usage, "", *[0] * 9, 10])
        files["label.csv"] = labels.getvalue().encode()
        _write_files(root, folder, files, zipped)
    write_rows(root / "fer2013new.csv", table)
    return root


def _write_files(root: Path, folder: str, files: dict[str, bytes], zipped: bool) -> None:
    """Write files into a folder, or into an archive of that folder."""
    if zipped:
        with zipfile.ZipFile(root / f"{folder}.zip", "w") as archive:
            for name, content in files.items():
                # A fixed date, so that the same seed writes the same archive.
                archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", (2016, 1, 1, 0, 0, 0)), content)
        return
    (root / folder).mkdir(exist_ok=True)
    for name, content in files.items():
        (root / folder / name).write_bytes(content)


def write_drawn_fer2013(root: Path, per_class: int, generator: np.random.Generator) -> Path:
    """Write `fer2013.csv` as the contest had it: class number, 48x48 grey values as text, Usage.

    Args:
        root: folder to make.
        per_class: pictures a class in train; half as many in the other two splits.
        generator: source of all chance.

    Returns:
        The root.
    """
    rows: list[list[object]] = [["emotion", "pixels", "Usage"]]
    for usage in ("Training", "PublicTest", "PrivateTest"):
        count = per_class if usage == "Training" else held_out(per_class)
        for drawing in drawings(_FER2013, count, generator, 48):
            text = " ".join(str(int(v)) for v in grey(drawing.pixels).ravel())
            rows.append([_FER2013.index(drawing.label), text, usage])
    write_rows(root / "fer2013.csv", rows)
    return root


def write_drawn_folder(
    root: Path,
    per_class: int,
    generator: np.random.Generator,
    side_px: int = 112,
    classes: Sequence[str] = EXPRESSIONS,
) -> Path:
    """Write class folders: `train/happiness/0001.png` and so on, with train, val and test.

    Args:
        root: folder to make.
        per_class: pictures a class in train; half as many in the other two splits.
        generator: source of all chance.
        side_px: side of the pictures.
        classes: names of the folders, any that `ddamfn.labels.canonical` knows.

    Returns:
        The root.
    """
    for split in ("train", "val", "test"):
        count = per_class if split == "train" else held_out(per_class)
        for drawing in drawings(classes, count, generator, side_px):
            save(drawing.pixels, root / split / drawing.label / f"{drawing.index:05d}.png")
    return root


def write_drawn_table(root: Path, per_class: int, generator: np.random.Generator, side_px: int = 112) -> Path:
    """Write `table.csv` with path, label, split, subject and group, and its pictures.

    Args:
        root: folder to make.
        per_class: pictures a class in train; half as many in the other two splits.
        generator: source of all chance.
        side_px: side of the pictures.

    Returns:
        The root. Nobody stands in two splits; the group is the subject's hair, long or short.
    """
    rows: list[list[object]] = [["path", "label", "split", "subject", "group"]]
    for split in ("train", "val", "test"):
        count = per_class if split == "train" else held_out(per_class)
        people = [sample_person(generator) for _ in range(max(2, count))]
        for drawing in drawings(EXPRESSIONS, count, generator, side_px, people=people):
            path = f"pictures/{split}{drawing.index:05d}.png"
            save(drawing.pixels, root / path)
            style = people[drawing.person].style
            group = "long hair" if style in ("long", "curly") else "short hair"
            rows.append([path, canonical(drawing.label), split, f"{split}{drawing.person:03d}", group])
    write_rows(root / "table.csv", rows)
    return root
