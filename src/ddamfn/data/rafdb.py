"""RAF-DB, the basic set: `EmoLabel/list_patition_label.txt` with the original or the aligned images.

The original images are preferred, because the five manual landmarks belong to them: with these every face can be
aligned, while a detector misses some. The aligned images (100x100) have no landmarks of their own.

Source: Li, Deng, Du 2017; the set's readme. The misspelling in the list's name is official.
"""

import logging
from pathlib import Path

from ddamfn.data.catalog import RAFDB
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.errors import DataError, UsageError

log = logging.getLogger(__name__)

_LISTS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt", "list_patition_label.txt")
_GENDERS = ("male", "female", "unsure")
_RACES = ("Caucasian", "African-American", "Asian")
_AGES = ("0-3", "4-19", "20-39", "40-69", "70+")

Points = tuple[tuple[float, float], ...]


def is_rafdb(root: Path) -> bool:
    """Tell whether a folder holds RAF-DB's label list, directly or below `basic`."""
    return _find_list(root) is not None


def open_rafdb(root: Path, images: str | None = None) -> Dataset:
    """Open RAF-DB's basic set; `images` None prefers `original` to `aligned`. The group is gender, race and age."""
    if images not in (None, "original", "aligned"):
        raise UsageError(f"RAF-DB has original and aligned images, not {images!r}")
    found = _find_list(root)
    if found is None:
        raise DataError(f"{root} lacks {_LISTS[0]}; give the folder of RAF-DB's basic set")
    base, labels = found
    kind = images or ("original" if (base / "Image" / "original").is_dir() else "aligned")
    folder = base / "Image" / kind
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; unpack {kind}.zip there")
    samples = tuple(_sample(base, kind, name, number) for name, number in _read_list(labels))
    lost = sum(s.landmarks is None for s in samples)
    if kind == "original" and lost:
        log.warning("%s: %d of %d images have no manual landmarks; they will be detected", base, lost, len(samples))
    return Dataset(RAFDB, samples, FileImages(base), f"{kind} images")


def _find_list(root: Path) -> tuple[Path, Path] | None:
    for base in (root, root / "basic"):
        for name in _LISTS:
            if (base / name).is_file():
                return base, base / name
    return None


def _read_list(path: Path) -> list[tuple[str, int]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, label = line.split()
            rows.append((name, int(label)))
        except ValueError:
            raise DataError(f"{path}:{number}: expected 'name.jpg label', not {line!r}") from None
    return rows


def _sample(base: Path, kind: str, name: str, number: int) -> Sample:
    split = name.partition("_")[0]
    if split not in RAFDB.splits:
        raise DataError(f"RAF-DB's list names {name!r}; names begin with train_ or test_")
    stem, dot, ending = name.rpartition(".")
    file = name if kind == "original" else f"{stem}_aligned{dot}{ending}"
    landmarks, group = _read_manual(base / "Annotation" / "manual" / f"{stem}_manu_attri.txt")
    location = f"Image/{kind}/{file}"
    # The manual points are pixels of the original image and mean nothing in the aligned one.
    points = landmarks if kind == "original" else None
    return Sample(key=name, split=split, label=RAFDB.label(number), group=group, landmarks=points, location=location)


def _read_manual(path: Path) -> tuple[Points | None, str | None]:
    """Read five points and the numbers of gender, race and age, each None where it is missing or malformed."""
    try:
        numbers = [float(cell) for cell in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return None, None
    points = tuple(zip(numbers[0:10:2], numbers[1:10:2], strict=True)) if len(numbers) >= 10 else None
    try:
        gender, race, age = (int(n) for n in numbers[10:13])
        return points, f"gender={_GENDERS[gender]};race={_RACES[race]};age={_AGES[age]}"
    except (ValueError, IndexError):
        return points, None
