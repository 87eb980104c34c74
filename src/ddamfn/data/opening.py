"""Open any known data set: its layout is recognized or given by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ddamfn.data.affectnet import is_affectnet, open_affectnet
from ddamfn.data.catalog import AFFECTNET, AFFECTNET_7, FER2013, RAFDB, DatasetCard
from ddamfn.data.ckplus import is_ckplus, open_ckplus
from ddamfn.data.dataset import Dataset
from ddamfn.data.fer2013 import is_fer2013, open_fer2013
from ddamfn.data.ferplus import SOURCES, is_ferplus, open_ferplus
from ddamfn.data.folder import is_folder, open_folder
from ddamfn.data.rafdb import is_rafdb, open_rafdb
from ddamfn.data.table import is_table, open_table, why_no_table
from ddamfn.errors import DataError, UsageError

Opener = Callable[[Path], Dataset]


def _or_folders(is_layout: Callable[[Path], bool], opener: Opener, card: DatasetCard) -> Opener:
    """Open the official layout where it exists, else class folders with the set's own numbers or names."""
    return lambda root: opener(root) if is_layout(root) or not _is_numbered(root) else open_folder(root, card)


def _is_numbered(root: Path) -> bool:
    """Tell whether a folder holds class folders, named or numbered, directly or below split folders."""
    return is_folder(root) or (root.is_dir() and any(p.is_dir() and p.name.isdecimal() for p in root.iterdir()))


# In order of recognition, the most specific first, so that class folders never hide an official set.
_RECOGNIZED: dict[str, Callable[[Path], bool]] = {
    "ferplus": is_ferplus,
    "rafdb": is_rafdb,
    "affectnet": is_affectnet,
    "ckplus": is_ckplus,
    "fer2013": is_fer2013,
    "table": is_table,
    "folder": is_folder,
}

_OPENERS: dict[str, Opener] = {
    "ferplus": open_ferplus,
    "ferplus-fer2013new": partial(open_ferplus, source=SOURCES[1]),
    "rafdb": _or_folders(is_rafdb, open_rafdb, RAFDB),
    "rafdb-aligned": partial(open_rafdb, images="aligned"),
    "affectnet": _or_folders(is_affectnet, open_affectnet, AFFECTNET),
    "affectnet7": _or_folders(is_affectnet, partial(open_affectnet, classes=7), AFFECTNET_7),
    "fer2013": _or_folders(is_fer2013, open_fer2013, FER2013),
    "ckplus": open_ckplus,
    "folder": open_folder,
    "table": open_table,
}

KINDS: tuple[str, ...] = tuple(_OPENERS)
"""Names that `open_dataset` takes as `kind`."""


def recognize(root: str | Path) -> str | None:
    """Return the kind of the data set below a path, or None if no layout fits."""
    path = Path(root)
    return next((kind for kind, fits in _RECOGNIZED.items() if fits(path)), None)


def open_dataset(root: str | Path, kind: str | None = None) -> Dataset:
    """Open a data set's folder, or its file for the csv and Parquet layouts; `kind` None recognizes the layout.

    Numbered class folders need a kind, since a number means a different expression in every set.
    """
    path = Path(root)
    if kind is not None and kind not in _OPENERS:
        raise UsageError(f"{kind!r} is no kind of data set; use one of {', '.join(KINDS)}")
    if not path.exists():
        if "://" in str(root):
            raise DataError(f"{root} is an address, and nothing is fetched; give a folder or file of this machine")
        raise DataError(f"{path} does not exist; give the folder or file of a data set")
    found = kind or recognize(path)
    if found is None:
        reason = why_no_table(path)
        if reason is not None:
            raise DataError(reason)
        raise DataError(
            f"{path} has no known layout ({', '.join(_RECOGNIZED)}); name it with --kind, or "
            "list its images in a csv with the columns path,label,split"
        )
    dataset = _OPENERS[found](path)
    if not dataset.samples:
        raise DataError(f"{path} lists no images; check that {dataset.card.title} was unpacked completely")
    return dataset
