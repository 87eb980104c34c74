"""Results as a table to read, JSON, JSON lines, CSV or Parquet; each is written as it comes."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from ddamfn.cli.io import plain
from ddamfn.errors import MissingExtra
from ddamfn.results import Face, ImageResult, row_columns
from ddamfn.video.frames import FrameResult, frame_columns

_ROWS_A_GROUP = 4096
_TEXT_COLUMNS = ("source", "expression", "error")


_Result = ImageResult | FrameResult


class Writer(Protocol):
    """Takes results one by one: of images, or of a video's frames."""

    def write(self, result: Any) -> None:
        """Write the result of one image or frame."""

    def close(self) -> None:
        """Write what belongs at the end; the stream stays open."""


def make_writer(
    kind: str,
    stream: BinaryIO,
    classes: tuple[str, ...],
    *,
    single: bool = False,
    attention: bool = False,
    frames: bool = False,
) -> Writer:
    """Return the writer for a format.

    Args:
        kind: one of `ddamfn.cli.io.FORMATS`.
        stream: where bytes go; text is UTF-8.
        classes: the weights' expressions, which name columns.
        single: the user named exactly one image: JSON is then an object instead of a list.
        attention: JSON holds the attention maps.
        frames: results will be those of a video's frames.

    Raises:
        MissingExtra: Parquet without pyarrow.
    """
    columns = frame_columns(classes) if frames else row_columns(classes)
    makers: Mapping[str, Callable[[], Writer]] = {
        "table": lambda: FrameTableWriter(stream) if frames else TableWriter(stream),
        "json": lambda: JsonWriter(stream, single=single, attention=attention),
        "jsonl": lambda: JsonLinesWriter(stream, attention=attention),
        "csv": lambda: CsvWriter(stream, columns),
        "parquet": lambda: ParquetWriter(stream, columns),
    }
    return makers[kind]()


class TableWriter:
    """A line a face, in columns of fixed width, so that the first line need not wait for the last."""

    _HEAD = f"{'expression':<12}{'confidence':>10}{'face':>8}{'score':>8}   {'left, top, size':<24}image\n"

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
        number = f"{index + 1}/{len(result.faces)}"
        return (
            f"{face.expression:<12}{face.confidence:>10.1%}{number:>8}{face.score:>8.3f}   {_place(face):<24}{source}"
        )


class FrameTableWriter:
    """A line a face of a video, with the time of its frame; frames without a face have none."""

    _HEAD = f"{'time':>10}{'track':>7}   {'expression':<12}{'confidence':>10}{'score':>8}   left, top, size\n"

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._stream.write(_encode(self._HEAD))

    def write(self, frame: FrameResult) -> None:
        """Write a line for each face."""
        for track, face in zip(frame.tracks, frame.faces, strict=True):
            head = f"{frame.time_s:>9.3f}s{'-' if track is None else track:>7}   {face.expression:<12}"
            self._stream.write(_encode(f"{head}{face.confidence:>10.1%}{face.score:>8.3f}   {_place(face)}\n"))
        self._stream.flush()

    def close(self) -> None:
        """Write nothing: the table has no end of its own."""


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, stream: BinaryIO, *, attention: bool) -> None:
        self._stream = stream
        self._attention = attention

    def write(self, result: _Result) -> None:
        """Write one line."""
        self._stream.write(_encode(_json(result.to_dict(attention=self._attention)) + "\n"))
        self._stream.flush()

    def close(self) -> None:
        """Write nothing: every line is complete."""


class JsonWriter:
    """One JSON document: an object for a single image, else a list with one line an image."""

    def __init__(self, stream: BinaryIO, *, single: bool, attention: bool) -> None:
        self._stream = stream
        self._single = single
        self._attention = attention
        self._count = 0

    def write(self, result: _Result) -> None:
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
    """One row a face, and one for each image or frame without a face or that could not be read."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._rows = csv.DictWriter(_Utf8(stream), columns, lineterminator="\n")
        self._rows.writeheader()

    def write(self, result: _Result) -> None:
        """Write the rows of an image or frame."""
        self._rows.writerows(result.to_rows())
        self._stream.flush()

    def close(self) -> None:
        """Write nothing: every row is complete."""


class ParquetWriter:
    """The rows of CSV with types, in groups of some thousands."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        """Open the file.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError:
            raise MissingExtra("parquet", "pyarrow") from None
        kinds = {name: pyarrow.string() for name in _TEXT_COLUMNS} | {
            "face": pyarrow.int32(),
            "frame": pyarrow.int64(),
            "track": pyarrow.int32(),
        }
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in columns]
        self._schema = pyarrow.schema(fields)
        self._table_from = pyarrow.Table.from_pylist
        self._file = pyarrow.parquet.ParquetWriter(stream, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, result: _Result) -> None:
        """Take the rows of an image or frame."""
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


def _place(face: Face) -> str:
    return f"{face.bbox.x1:.0f}, {face.bbox.y1:.0f}, {face.bbox.width:.0f} x {face.bbox.height:.0f}"


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
