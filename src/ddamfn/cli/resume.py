"""Going on with a file of CSV or JSON lines: its finished images are read back, and what may be torn is cut off."""

import codecs
import contextlib
import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ddamfn.cli.io import write_errors
from ddamfn.distributed.finished import Finished, digests
from ddamfn.errors import UsageError
from ddamfn.files import csv_lines, partial_path

KINDS = ("jsonl", "csv", "csv-excel")
"""The formats of `ddamfn.cli.io.FORMATS` that a run can go on with."""

_OTHERWISE = "name another file, or leave --resume out to replace this one"
_NAMES_AT_ONCE = 4096
_JSON_BEGINS = b'{"source": '

Row = tuple[int, int, str | None]
"""Where a row begins and ends in its file, and the image that it is of; None for the head."""


@contextlib.contextmanager
def resumed_output(
    path: str, kind: str, columns: Sequence[str], *, attention: bool
) -> Iterator[tuple[BinaryIO, Finished]]:
    """Open a file at its end, and tell which images it has; the rows of the last image are cut off.

    The file grows in its place, so that a kill leaves what was written.

    Args:
        path: the file; it need not exist.
        kind: one of `KINDS`.
        columns: of CSV; the expressions in JSON lines are those of its columns `p_...`.
        attention: whether faces have attention maps.

    Raises:
        UsageError: the file is of another kind, or has other columns.
    """
    target = Path(os.path.realpath(path))
    with write_errors(path):
        if not target.exists() and partial_path(target).exists():
            # A run without --resume grows its file there, where a kill leaves it.
            partial_path(target).replace(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("r+b" if target.exists() else "w+b") as stream:
            if kind == "jsonl":
                rows = _json_rows(stream, path, columns, attention=attention)
            else:
                rows = _csv_rows(stream, path, columns, codecs.BOM_UTF8 if kind == "csv-excel" else b"")
            keep, finished = _all_but_the_last(rows)
            stream.seek(keep)
            stream.truncate()
            yield stream, finished
            stream.flush()
            os.fsync(stream.fileno())


def _all_but_the_last(rows: Iterator[Row]) -> tuple[int, Finished]:
    """Return how much of a file to keep, and which images that has."""
    keep, last = 0, None
    parts, names = [], list[str]()
    for begin, end, source in rows:
        if source is None:
            keep = end
        elif source != last:
            names += [] if last is None else [last]
            keep, last = begin, source
        if len(names) >= _NAMES_AT_ONCE:
            parts.append(digests(names))
            names = []
    return keep, Finished([*parts, digests(names)])


def _csv_rows(stream: BinaryIO, path: str, columns: Sequence[str], mark: bytes) -> Iterator[Row]:
    """Yield the head and the rows of a CSV file; the last one, if it is torn, is left out."""
    expected = mark + csv_lines([columns]).encode()
    end = len(expected)
    head = stream.read(end)
    if not expected.startswith(head):
        raise UsageError(f"--resume: {path} does not have these columns of CSV: {_OTHERWISE}")
    if len(head) < end:
        return
    yield 0, end, None
    record = b""
    for line in stream:
        record += line
        # A name may hold a line break, in quotes.
        if record.count(b'"') % 2 or not record.endswith(b"\n"):
            continue
        begin, end = end, end + len(record)
        fields = next(csv.reader([record.decode("utf-8", "replace")]))
        if len(fields) != len(columns):
            raise UsageError(f"--resume: {path} is damaged at byte {begin:,}: {_OTHERWISE}")
        yield begin, end, fields[0]
        record = b""


def _json_rows(stream: BinaryIO, path: str, columns: Sequence[str], *, attention: bool) -> Iterator[Row]:
    """Yield the lines of a file of JSON lines; the last one, if it is torn, is left out."""
    classes = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    end = 0
    for line in stream:
        begin, end = end, end + len(line)
        if not line.endswith(b"\n") and (line.startswith(_JSON_BEGINS) or _JSON_BEGINS.startswith(line)):
            return
        try:
            row = json.loads(line)
            faces = row["faces"]
            fits = all(list(f["probabilities"]) == classes and ("attention" in f) == attention for f in faces)
            fits = fits and "frame" not in row
            source = str(row["source"])
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"--resume: {path} does not have JSON lines of images: {_OTHERWISE}") from None
        if not fits:
            raise UsageError(f"--resume: {path} has other expressions or attention maps: {_OTHERWISE}")
        yield begin, end, source
