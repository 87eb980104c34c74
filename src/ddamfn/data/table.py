"""A table of images: csv or Parquet with `path,label` and, where known, `split`, `subject`, `group`.

A csv may be separated by commas, semicolons or tabs, in UTF-8 or UTF-16, as spreadsheets save it; the names of its
columns may have any case. Paths may have the backslashes of Windows.
"""

import codecs
import csv
import io
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
_CSV_SUFFIXES = (".csv", ".tsv")
_SEPARATORS = (",", ";", "\t")
_LONGEST_HEADER_BYTES = 4000


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
    """Open a `.csv`, `.tsv` or `.parquet` table, or a folder with exactly one; `split` defaults to `all`.

    Paths in it are relative to the file's folder, or absolute; labels are names that `labels.canonical` knows.
    """
    path = find_table(root)
    if path is None:
        raise DataError(
            why_no_table(root) or f"{root} is no table (.csv, .tsv, .parquet) of path and label, and has none"
        )
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


def why_no_table(root: Path) -> str | None:
    """Say what keeps a csv file, or those at the top of a folder, from being a table; None where there is none."""
    if not root.is_dir():
        return _missing(root) if root.is_file() and root.suffix.lower() in _CSV_SUFFIXES else None
    named = sorted(p for p in root.iterdir() if p.suffix.lower() in _CSV_SUFFIXES and p.is_file())
    tables = [p.name for p in named if _looks_right(p)]
    if len(tables) > 1:
        return f"{root} has several tables: name one of {', '.join(tables)}"
    return _missing(named[0]) if len(named) == 1 else None


def _missing(path: Path) -> str | None:
    columns, _ = _header(path)
    missing = [name for name in _NEEDED if name not in columns]
    found = ", ".join(repr(name) for name in columns if name) or "nothing"
    return f"{path}: no column is called {' or '.join(missing)}; the first line names {found}" if missing else None


def _looks_right(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return True
    return path.suffix.lower() in _CSV_SUFFIXES and set(_NEEDED) <= set(_header(path)[0])


def _header(path: Path) -> tuple[list[str], str]:
    """Return a csv file's columns, in lower case, and its separator: the one that gives the most needed columns."""
    try:
        with path.open("rb") as file:
            head = file.read(_LONGEST_HEADER_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    text = head.decode(_encoding(head), errors="replace")
    line = next((line for line in text.splitlines() if not _names_separator(line)), "")
    found = {separator: _cells(line, separator) for separator in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda separator: (len(set(_NEEDED) & set(found[separator])), len(found[separator])))
    return found[best], best


def _names_separator(line: str) -> bool:
    """Whether a line only tells a spreadsheet the separator, as Excel writes it before the header."""
    return line.strip().lower().startswith("sep=") and len(line.strip()) <= len("sep=,")


def _cells(line: str, separator: str) -> list[str]:
    return [
        name.strip().casefold() for name in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    ]


def _encoding(head: bytes) -> str:
    """Tell UTF-16 by its mark, or by the zeros beside plain letters; anything else is UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head[:2]:
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    return "utf-8-sig"


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    columns, separator = _header(path)
    try:
        content = path.read_bytes()
        text = content.decode(_encoding(content))
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        for cells in rows:
            if rows.line_num == 1 and _names_separator(separator.join(cells)):
                continue
            break
        for cells in rows:
            # Spreadsheets save rows that were emptied as separators alone.
            if any(cell.strip() for cell in cells):
                yield dict(zip(columns, map(str.strip, cells), strict=False))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not {error.encoding.upper()}; save the table as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as UTF-8 csv") from error


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("parquet", "pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        own = {name.strip().casefold(): name for name in file.schema_arrow.names}
        missing = [name for name in _NEEDED if name not in own]
        if missing:
            raise DataError(f"{path}: the column {missing[0]} is missing")
        columns = {own[name]: name for name in (*_NEEDED, *_OPTIONAL) if name in own}
        for batch in file.iter_batches(columns=list(columns)):
            for row in batch.to_pylist():
                yield {columns[name]: value for name, value in row.items()}
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it again") from error


def _sample(path: Path, number: int, row: Mapping[str, Any]) -> Sample:
    name, split = _text(row.get("path")), (_text(row.get("split")) or "all").casefold()
    if name is None:
        raise DataError(f"{path}: row {number}: the path is empty")
    if _text(row.get("label")) is None:
        raise DataError(f"{path}: row {number}: the label is empty")
    if split not in SPLIT_NAMES:
        raise DataError(f"{path}: row {number} has the split {split!r}; use one of {', '.join(sorted(SPLIT_NAMES))}")
    try:
        label = canonical(str(row["label"]))
    except UnknownLabel as error:
        raise DataError(f"{path}: row {number}: {error}") from error
    name = _slashes(path.parent, name)
    subject, group = _text(row.get("subject")), _text(row.get("group"))
    return Sample(key=name, split=SPLIT_NAMES[split], label=label, subject=subject, group=group, location=name)


def _slashes(root: Path, name: str) -> str:
    """Turn the backslashes of Windows around, but not those of a file that is called so."""
    return name if "\\" not in name or (root / name).exists() else name.replace("\\", "/")


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None
