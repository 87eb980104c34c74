"""A table of images: csv or Parquet with `path,label` and, where known, `split`, `subject`, `group`."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddamfn.data.catalog import DatasetCard
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.data.folder import SPLIT_NAMES
from ddamfn.errors import DataError, MissingExtra, UnknownLabel
from ddamfn.labels import EXPRESSIONS, canonical

_NEEDED = ("path", "label")
_OPTIONAL = ("split", "subject", "group")


def is_table(path: Path) -> bool:
    """Tell whether a path is a csv file with the columns path and label, a Parquet file, or a folder with one."""
    return find_table(path) is not None


def find_table(root: Path) -> Path | None:
    """Return a table's path, or the only table at the top of a folder; None if there is none."""
    if root.is_dir():
        tables = [p for p in sorted(root.iterdir()) if p.is_file() and _looks_right(p)]
        return tables[0] if len(tables) == 1 else None
    return root if root.is_file() and _looks_right(root) else None


def open_table(root: Path) -> Dataset:
    """Open a `.csv` or `.parquet` table, or a folder with exactly one; `split` defaults to `all`.

    Paths in it are relative to the file's folder, or absolute; labels are names that `labels.canonical` knows.
    """
    path = find_table(root)
    if path is None:
        raise DataError(f"{root} is not a table (.csv or .parquet) with columns path and label, nor a folder with one")
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    samples = tuple(_sample(path, number, row) for number, row in enumerate(rows, start=1))
    if not samples:
        raise DataError(f"{path} has no rows; list the images in it")
    twice = [key for key, count in Counter(s.key for s in samples).items() if count > 1]
    if twice:
        others = "and others " if len(twice) > 1 else ""
        raise DataError(f"{path} lists {twice[0]} {others}twice; keep one row per image")
    present = {s.label for s in samples}
    classes = tuple(name for name in EXPRESSIONS if name in present)
    return Dataset(DatasetCard("table", path.stem, classes), samples, FileImages(path.parent), path.name)


def _looks_right(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return True
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        return set(_NEEDED) <= set(next(csv.reader([file.readline(1000)]), []))


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as UTF-8 csv") from error


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("parquet", "pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        missing = [name for name in _NEEDED if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"{path}: the column {missing[0]} is missing")
        columns = [name for name in (*_NEEDED, *_OPTIONAL) if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it again") from error


def _sample(path: Path, number: int, row: Mapping[str, Any]) -> Sample:
    try:
        name, label = str(row["path"] or ""), canonical(str(row["label"]))
        if not name:
            raise DataError("the path is empty")
        split = str(row.get("split") or "all").strip()
        return Sample(
            key=name,
            split=SPLIT_NAMES[split.casefold()],
            label=label,
            subject=_text(row.get("subject")),
            group=_text(row.get("group")),
            location=name,
        )
    except KeyError as error:
        known = ", ".join(sorted(SPLIT_NAMES))
        raise DataError(f"{path}: row {number} has the split {error}; use one of {known}") from error
    except (UnknownLabel, DataError) as error:
        raise DataError(f"{path}: row {number}: {error}") from error


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
