"""Results as a table to read, JSON, JSON lines, CSV or Parquet; each is written as it comes."""

import csv
import json
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from ddamfn.cli.output import plain
from ddamfn.errors import MissingExtra
from ddamfn.results import ImageResult, row_columns

_ROWS_A_GROUP = 4096
_TEXT_COLUMNS = ("source", "expression", "error")


class Writer(Protocol):
    """Takes results one by one."""

    def write(self, result: ImageResult) -> None:
        """Write one picture's result."""

    def close(self) -> None:
        """Write what belongs at the end; the stream stays open."""


def make_writer(
    kind: str, stream: BinaryIO, classes: tuple[str, ...], *, single: bool = False, attention: bool = False
) -> Writer:
    """Return the writer for a format.

    Args:
        kind: one of `ddamfn.cli.output.FORMATS`.
        stream: where bytes go; text is UTF-8.
        classes: the weights' expressions, which name columns.
        single: the user named exactly one picture: JSON is then an object instead of a list.
        attention: JSON holds the attention maps.

    Raises:
        MissingExtra: Parquet without pyarrow.
    """
    makers: Mapping[str, Callable[[], Writer]] = {
        "table": lambda: TableWriter(stream),
        "json": lambda: JsonWriter(stream, single=single, attention=attention),
        "jsonl": lambda: JsonLinesWriter(stream, attention=attention),
        "csv": lambda: CsvWriter(stream, classes),
        "parquet": lambda: ParquetWriter(stream, classes),
    }
    return makers[kind]()


class TableWriter:
    """A line a face, in columns of fixed width, so that the first line need not wait for the last."""

    _HEAD = f"{'expression':<12}{'confidence':>10}{'face':>8}{'score':>8}   {'left, top, size':<24}picture\n"

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._head: str = self._HEAD

    def write(self, result: ImageResult) -> None:
        """Write a line for each face, or one that says that there is none."""
        source = plain(result.source)
        if result.error is not None:
            lines = [f"{'error':<65}{source}: {plain(result.error)}"]
        elif not result.faces:
            lines = [f"{'no face':<65}{source}"]
        else:
            lines = [self._line(result, index, source) for index in range(len(result.faces))]
        self._stream.write(_encode(self._head + "".join(f"{line}\n" for line in lines)))
        self._stream.flush()
        self._head = ""

    def close(self) -> None:
        """Write nothing: the table has no end of its own."""

    @staticmethod
    def _line(result: ImageResult, index: int, source: str) -> str:
        face = result.faces[index]
        place = f"{face.bbox.x1:.0f}, {face.bbox.y1:.0f}, {face.bbox.width:.0f} x {face.bbox.height:.0f}"
        number = f"{index + 1}/{len(result.faces)}"
        return f"{face.expression:<12}{face.confidence:>10.1%}{number:>8}{face.score:>8.3f}   {place:<24}{source}"


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, stream: BinaryIO, *, attention: bool) -> None:
        self._stream = stream
        self._attention = attention

    def write(self, result: ImageResult) -> None:
        """Write one line."""
        self._stream.write(_encode(_json(result.to_dict(attention=self._attention)) + "\n"))
        self._stream.flush()

    def close(self) -> None:
        """Write nothing: every line is complete."""


class JsonWriter:
    """One JSON document: an object for a single picture, else a list with one line a picture."""

    def __init__(self, stream: BinaryIO, *, single: bool, attention: bool) -> None:
        self._stream = stream
        self._single = single
        self._attention = attention
        self._count = 0

    def write(self, result: ImageResult) -> None:
        """Write one element."""
        opening = "" if self._single else ",\n" if self._count else "[\n"
        ending = "\n" if self._single else ""
        self._stream.write(_encode(f"{opening}{_json(result.to_dict(attention=self._attention))}{ending}"))
        self._count += 1

    def close(self) -> None:
        """Close the list, so that also an interrupted run leaves a readable document."""
        if not self._single:
            self._stream.write(b"\n]\n" if self._count else b"[]\n")


class CsvWriter:
    """One row a face, and one for each picture without a face or that could not be read."""

    def __init__(self, stream: BinaryIO, classes: tuple[str, ...]) -> None:
        self._stream = stream
        self._rows = csv.DictWriter(_Utf8(stream), row_columns(classes), lineterminator="\n")
        self._rows.writeheader()

    def write(self, result: ImageResult) -> None:
        """Write the picture's rows."""
        self._rows.writerows(result.to_rows())
        self._stream.flush()

    def close(self) -> None:
        """Write nothing: every row is complete."""


class ParquetWriter:
    """The rows of CSV with types, in groups of some thousands."""

    def __init__(self, stream: BinaryIO, classes: tuple[str, ...]) -> None:
        """Open the file.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError:
            raise MissingExtra("parquet", "pyarrow") from None
        kinds = {name: pyarrow.string() for name in _TEXT_COLUMNS} | {"face": pyarrow.int32()}
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in row_columns(classes)]
        self._schema = pyarrow.schema(fields)
        self._table_from = pyarrow.Table.from_pylist
        self._file = pyarrow.parquet.ParquetWriter(stream, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, result: ImageResult) -> None:
        """Take the picture's rows."""
        for row in result.to_rows():
            self._rows.append(row | {"source": _encode(row["source"]).decode()})
        if len(self._rows) >= _ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last group and the footer, without which a Parquet file is unreadable."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._table_from(self._rows, schema=self._schema))
            self._rows = []


class _Utf8:
    """Lets `csv` write into a stream of bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_encode(text))


def _json(plain_result: Mapping[str, Any]) -> str:
    return json.dumps(plain_result, ensure_ascii=False, allow_nan=False)


def _encode(text: str) -> bytes:
    # File names that are not UTF-8 come as lone surrogates; "\udcff" is also how JSON writes them.
    return text.encode("utf-8", errors="backslashreplace")
