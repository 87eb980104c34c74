"""Class folders: `train/happiness/x.jpg` and so on, or `happiness/x.jpg` without splits."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ddamfn.data.catalog import DatasetCard
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.errors import DataError, UnknownLabel
from ddamfn.files import special_kind
from ddamfn.formats import IMAGE_SUFFIXES, is_unread_suffix
from ddamfn.labels import EXPRESSIONS, canonical

_LOGGER = logging.getLogger(__name__)

SPLIT_NAMES: dict[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "all": "all",
}
"""Spellings of the splits -> `train`, `val`, `test`, `all`."""

_ORDER = ("train", "val", "test", "all")


def is_folder(root: Path) -> bool:
    """Tell whether a folder holds split folders or class folders with a known name."""
    if not root.is_dir():
        return False
    names = [p.name for p in root.iterdir() if p.is_dir()]
    return any(name.casefold() in SPLIT_NAMES or _label(name, None) is not None for name in names)


def open_folder(root: Path, card: DatasetCard | None = None) -> Dataset:
    """Open class folders, below split folders or directly below `root` (split `all`), sorted by name.

    With the card of a known set, its class numbers are accepted as folder names too, as in copies of RAF-DB.
    """
    named = {p: SPLIT_NAMES[p.name.casefold()] for p in _folders(root) if p.name.casefold() in SPLIT_NAMES}
    splits = named or {root: "all"}
    left_out: Counter[str] = Counter()
    samples = tuple(
        Sample(key=key, split=split, label=label, location=key)
        for place, split in sorted(splits.items(), key=lambda item: (_ORDER.index(item[1]), item[0]))
        for label, folder in _classes(place, card)
        for key in _images(root, folder, left_out)
    )
    if left_out:
        _LOGGER.warning("%s: left out: %s", root, ", ".join(f"{n:,} {kind}" for kind, n in left_out.most_common()))
    if not samples:
        raise DataError(f"{root} holds no images in class folders such as train/happiness/1.jpg")
    if card is None:
        present = {s.label for s in samples}
        classes = tuple(name for name in EXPRESSIONS if name in present)
        return Dataset(DatasetCard("folder", root.resolve().name, classes), samples, FileImages(root), "class folders")
    return Dataset(card, samples, FileImages(root), "class folders by the set's own numbers or names")


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: {error.strerror or error}; give a folder that exists") from error


def _label(name: str, card: DatasetCard | None) -> str | None:
    try:
        if name.isdecimal():
            return card.label(int(name)) if card is not None else None
        return canonical(name)
    except UnknownLabel:
        return None


def _classes(place: Path, card: DatasetCard | None) -> Iterator[tuple[str, Path]]:
    for folder in _folders(place):
        label = _label(folder.name, card)
        if label is None:
            hint = "; numbered folders need --kind with the set that numbers them" if folder.name.isdecimal() else ""
            names = ", ".join(EXPRESSIONS)
            raise DataError(f"{folder}: {folder.name!r} is not an expression; rename it to one of {names}{hint}")
        if card is not None and label not in card.classes:
            raise DataError(f"{folder}: {label} is not a class of {card.title}; remove it or choose another --kind")
        yield label, folder


def _images(root: Path, folder: Path, left_out: Counter[str]) -> list[str]:
    """Return the images of a class, and count what looks like one and is none that is read."""
    files = []
    for path in folder.rglob("*"):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not (suffix in IMAGE_SUFFIXES or is_unread_suffix(suffix)) or path.is_dir():
            continue
        # A broken link stays: reading it will say why that is impossible.
        special = special_kind(path.stat().st_mode) if path.exists() else None
        if special is None and suffix in IMAGE_SUFFIXES:
            files.append(path.relative_to(root).as_posix())
        else:
            left_out[special or suffix] += 1
    return sorted(files)
