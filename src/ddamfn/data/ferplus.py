"""FERPlus: the images of FER2013 with the votes of ten annotators.

Two files carry the votes and differ a little: the `label.csv` beside the images of each split, and `fer2013new.csv`
for all of them (majority keeps 3,137 test images by the first and 3,152 by the second). The first is the default,
because it lists exactly the images that exist; the data set's note names the file.

Source: Barsoum et al. 2016; layout of Microsoft's FERPlus repository.
"""

import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ddamfn.data.catalog import FERPLUS, FERPLUS_NEW
from ddamfn.data.dataset import Dataset, FileImages, ImageSource, Sample, ZipImages
from ddamfn.data.rules import VOTE_COLUMNS
from ddamfn.errors import DataError, UsageError

_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
_USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_LABEL_CSV, _NEW_CSV = "label.csv", "fer2013new.csv"

SOURCES: tuple[str, ...] = (_LABEL_CSV, _NEW_CSV)
"""Files that the votes can come from."""

# Image name -> votes: a dict keeps the place of a name's first row and the votes of its last one.
_Ballots = dict[str, tuple[float, ...]]


def is_ferplus(root: Path) -> bool:
    """Tell whether a folder holds FERPlus: one of the split folders, or its zip archive."""
    return bool(_present(root))


def open_ferplus(root: Path, source: str | None = None) -> Dataset:
    """Open FERPlus in its official layout, folders or zip archives; a name that is listed twice keeps its later row."""
    if source is not None and source not in SOURCES:
        raise UsageError(f"{source!r} is not a source of FERPlus votes; use one of {', '.join(SOURCES)}")
    containers = _present(root)
    if not containers:
        raise DataError(f"{root} holds none of {', '.join(_FOLDERS.values())}, neither as folders nor as .zip")
    texts = {split: _label_csv(path, _FOLDERS[split]) for split, path in containers.items()}
    without = [_FOLDERS[split] for split, text in texts.items() if text is None]
    if source == _NEW_CSV or (source is None and without and (root / _NEW_CSV).is_file()):
        ballots, card = _read_new_csv(root / _NEW_CSV), FERPLUS_NEW
    elif without:
        raise DataError(f"{root}: neither label.csv in {', '.join(without)} nor {_NEW_CSV}; add one of them")
    else:
        ballots = {split: _read_label_csv(text or "", containers[split]) for split, text in texts.items()}
        card = FERPLUS
    samples = []
    for split, path in containers.items():
        for name, votes in ballots.get(split, {}).items():
            key = f"{_FOLDERS[split]}/{name}"
            location = f"{path.name}/{key}" if path.suffix == ".zip" else key
            samples.append(Sample(key=key, split=split, votes=votes, location=location))
    return Dataset(card, tuple(samples), _Containers(root), card.note)


def _present(root: Path) -> dict[str, Path]:
    """Find each split's folder, or its archive where there is no folder."""
    found = {}
    for split, name in _FOLDERS.items():
        if (root / name).is_dir():
            found[split] = root / name
        elif (root / f"{name}.zip").is_file():
            found[split] = root / f"{name}.zip"
    return found


class _Containers:
    """Images in folders and archives alike: a location inside an archive has `.zip/` in it."""

    def __init__(self, root: Path) -> None:
        self._files, self._zips = FileImages(root), ZipImages(root)

    def read(self, location: str) -> bytes:
        """Return the image's bytes; raises UnreadableImage if it is missing or damaged."""
        return bytes(self._source(location).read(location))

    def state(self, location: str) -> str:
        """Return what changes with the image."""
        return self._source(location).state(location)

    def _source(self, location: str) -> ImageSource:
        return self._zips if ".zip/" in location else self._files


def _label_csv(container: Path, folder: str) -> str | None:
    """Return the text of a split's label.csv, or None if there is none."""
    try:
        if container.is_dir():
            path = container / _LABEL_CSV
            return path.read_text(encoding="utf-8-sig") if path.is_file() else None
        with zipfile.ZipFile(container) as archive:
            member = f"{folder}/{_LABEL_CSV}"
            return archive.read(member).decode("utf-8-sig") if member in archive.namelist() else None
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{container}: cannot read {_LABEL_CSV}: {error}; download it again") from error


def _read_label_csv(text: str, where: Path) -> _Ballots:
    """Read rows `name, "(0, 0, 48, 48)", ten votes`; the file has no header."""
    return _ballots(((row[0], row[2:]) for row in csv.reader(io.StringIO(text)) if row), f"{where}: {_LABEL_CSV}")


def _read_new_csv(path: Path) -> dict[str, _Ballots]:
    """Read `fer2013new.csv` into one table per split; rows without an image name have no image and are skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; add it, or the label.csv files") from error
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows or tuple(rows[0]) != ("Usage", "Image name", *VOTE_COLUMNS):
        raise DataError(f"{path}: the first line must be Usage,Image name,{','.join(VOTE_COLUMNS)}")
    unknown = {row[0] for row in rows[1:]} - set(_USAGES)
    if unknown:
        raise DataError(f"{path}: unknown Usage {sorted(unknown)[0]!r}; expected {', '.join(_USAGES)}")
    # Joined by split and name, never by row number: the file has rows without an image, so the two lists run apart.
    return {
        split: _ballots(((row[1], row[2:]) for row in rows[1:] if row[0] == usage and row[1:2] != [""]), str(path))
        for usage, split in _USAGES.items()
    }


def _ballots(rows: Iterable[tuple[str, list[str]]], where: str) -> _Ballots:
    ballots: _Ballots = {}
    for name, cells in rows:
        try:
            votes = tuple(float(cell) for cell in cells)
        except ValueError:
            votes = ()
        if len(votes) != len(VOTE_COLUMNS):
            need = f"needs {len(VOTE_COLUMNS)} numbers; correct it or download the file again"
            raise DataError(f"{where}: the row of {name} {need}")
        ballots[name] = votes
    return ballots
