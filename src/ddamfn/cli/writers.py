"""Results as a text table, JSON, JSON lines, CSV or Parquet, each written as it comes."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from ddamfn.adapters import arrow_schema, arrow_table
from ddamfn.cli.io import number, plain
from ddamfn.files import csv_lines, utf8
from ddamfn.results import UNCERTAIN, Face, ImageResult, row_columns

if TYPE_CHECKING:
    from ddamfn.video import FrameResult

    _Result = ImageResult | FrameResult

_PARQUET_GROUP_ROWS = 4096


class Writer:
    """Takes the results of images or video frames one by one, and writes them to a stream as UTF-8.

    Nothing is written before the first result, or the end: of a run that is stopped before it has one,
    `ddamfn.cli.io.open_output` keeps the older file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._is_begun = False

    def write(self, result: Any) -> None:
        """Write the result of one image or frame."""
        self._begin_once()
        self._write(result)

    def close(self) -> None:
        """Write what belongs at the end; the stream stays open."""
        self._begin_once()
        self._end()

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Close it at the end, and also at an early one, unless there is no result yet."""
        try:
            yield
        except BaseException:
            if self._is_begun:
                self.close()
            raise
        self.close()

    def _begin_once(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._begin()

    def _begin(self) -> None:
        """Write what belongs at the beginning."""

    def _write(self, result: Any) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """Write what belongs at the end."""

    def _text(self, text: str) -> None:
        self._stream.write(utf8(text))
        self._stream.flush()


def make_writer(
    kind: str,
    stream: BinaryIO,
    columns: Sequence[str],
    *,
    single: bool = False,
    attention: bool = False,
    frames: bool = False,
    mixed: bool = False,
    begun: bool = False,
) -> Writer:
    """Return the writer for a format of `ddamfn.cli.io.FORMATS`; `single` writes one JSON object instead of a list.

    A table has other columns for `frames` than for images; one that is `mixed` takes both. CSV that is `begun` has its
    head already.
    """
    tables = MixedTableWriter if mixed else FrameTableWriter if frames else TableWriter
    makers: Mapping[str, Callable[[], Writer]] = {
        "table": lambda: tables(stream),
        "json": lambda: JsonWriter(stream, single=single, attention=attention),
        "jsonl": lambda: JsonLinesWriter(stream, attention=attention),
        "csv": lambda: CsvWriter(stream, columns, begun=begun),
        "csv-excel": lambda: CsvWriter(stream, columns, mark=True, begun=begun),
        "parquet": lambda: ParquetWriter(stream, columns),
    }
    return makers[kind]()


class TableWriter(Writer):
    """One line per face, in columns of fixed width, so that no line waits for the last."""

    _head = f"{'expression':<12}{'confidence':>10}{'face':>8}{'score':>8}   {'left, top, size':<24}image\n"

    def _write(self, result: ImageResult) -> None:
        """Write a line for each face, or one that reports none."""
        source = plain(result.source)
        if result.error is not None:
            lines = [f"{'error':<65}{source}: {plain(result.error)}"]
        elif not result.faces:
            lines = [f"{'no face':<65}{source}"]
        else:
            lines = self._faces(result.faces, [source] * len(result.faces))
        self._lines(lines)

    def _faces(self, faces: Sequence[Face], names: Sequence[str]) -> list[str]:
        return [
            f"{face.expression:<12}{face.confidence:>10.1%}{f'{index}/{len(faces)}':>8}{face.score:>8.3f}   "
            f"{_place(face):<24}{name}"
            for index, (face, name) in enumerate(zip(faces, names, strict=True), start=1)
        ]

    def _lines(self, lines: Sequence[str]) -> None:
        self._text(self._head + "".join(f"{line}\n" for line in lines))
        self._head = ""


class MixedTableWriter(TableWriter):
    """The same table with the frames of videos: a frame's time and a face's track follow the name."""

    def _write(self, result: "_Result") -> None:
        """Write a line for each face; frames without a face have none."""
        if isinstance(result, ImageResult):
            super()._write(result)
            return
        name = f"{plain(result.source)} {result.time_s:.3f}s"
        self._lines(
            self._faces(result.faces, [name if track is None else f"{name} track {track}" for track in result.tracks])
        )


class FrameTableWriter(Writer):
    """One line per face of a video, with its frame's time; frames without a face have none."""

    def _begin(self) -> None:
        self._text(f"{'time':>10}{'track':>7}   {'expression':<12}{'confidence':>10}{'score':>8}   left, top, size\n")

    def _write(self, result: "FrameResult") -> None:
        """Write a line for each face."""
        lines = []
        for track, face in zip(result.tracks, result.faces, strict=True):
            head = f"{result.time_s:>9.3f}s{'-' if track is None else track:>7}   {face.expression:<12}"
            lines.append(f"{head}{face.confidence:>10.1%}{face.score:>8.3f}   {_place(face)}\n")
        self._text("".join(lines))


class JsonLinesWriter(Writer):
    """One JSON object per line."""

    def __init__(self, stream: BinaryIO, *, attention: bool) -> None:
        super().__init__(stream)
        self._attention = attention

    def _write(self, result: "_Result") -> None:
        """Write one line."""
        self._text(self._json(result) + "\n")

    def _json(self, result: "_Result") -> str:
        return json.dumps(result.to_dict(attention=self._attention), ensure_ascii=False, allow_nan=False)


class JsonWriter(JsonLinesWriter):
    """One JSON document: an object for a single image, else a list with one line per image."""

    def __init__(self, stream: BinaryIO, *, single: bool, attention: bool) -> None:
        super().__init__(stream, attention=attention)
        self._single, self._count = single, 0

    def _write(self, result: "_Result") -> None:
        """Write one element."""
        opening = "" if self._single else ",\n" if self._count else "[\n"
        self._stream.write(utf8(opening + self._json(result) + ("\n" if self._single else "")))
        self._count += 1

    def _end(self) -> None:
        """Close the list, so that an interrupted run leaves a readable document too."""
        if not self._single:
            self._stream.write(b"\n]\n" if self._count else b"[]\n")


class CsvWriter(Writer):
    """One row per face, and one for each image or frame that has no face or is unreadable.

    With `mark` the file begins with the mark by which Excel knows UTF-8.
    """

    def __init__(self, stream: BinaryIO, columns: Sequence[str], *, mark: bool = False, begun: bool = False) -> None:
        super().__init__(stream)
        self._columns, self._mark, self._is_begun = columns, mark, begun

    def _begin(self) -> None:
        self._stream.write(codecs.BOM_UTF8 if self._mark else b"")
        self._text(csv_lines([self._columns]))

    def _write(self, result: "_Result") -> None:
        """Write the rows of an image or frame."""
        self._text(csv_lines([row.get(name) for name in self._columns] for row in result.to_rows()))


def mixed_columns(classes: tuple[str, ...]) -> list[str]:
    """Return the columns of a table of images and frames: those of both."""
    source, *others = row_columns(classes)
    return [source, "frame", "time_s", "track", *others]


class ParquetWriter(Writer):
    """The rows of CSV with types, in groups of some thousands."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        super().__init__(stream)
        self._schema = arrow_schema(columns)
        import pyarrow.parquet

        self._open_file = pyarrow.parquet.ParquetWriter
        self._rows: list[dict[str, Any]] = []

    def _begin(self) -> None:
        self._file = self._open_file(self._stream, self._schema)

    def _write(self, result: "_Result") -> None:
        """Take the rows of an image or frame."""
        self._rows += result.to_rows()
        if len(self._rows) >= _PARQUET_GROUP_ROWS:
            self._flush()

    def _end(self) -> None:
        """Write the last group and the footer, without which a Parquet file is unreadable."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(arrow_table(self._rows, self._schema))
            self._rows = []


class Tally:
    """Counts results for the summary of a run."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.items = self.faces = self.uncertain = self.faceless = self.unreadable = self.tracks = 0
        self.end_s: float | None = None

    def add(self, faces: Sequence[Face], *, is_readable: bool = True) -> None:
        """Count one image or frame."""
        self.items += 1
        self.faces += len(faces)
        self.uncertain += sum(face.expression == UNCERTAIN for face in faces)
        self.faceless += is_readable and not faces
        self.unreadable += not is_readable

    def __str__(self) -> str:
        reached = "" if self.end_s is None else f" to {self.end_s:.2f} s"
        parts = [number(self.items, self._noun) + reached, number(self.faces, "face")]
        parts += [number(self.tracks, "track")] if self.tracks else []
        optional = {"uncertain": self.uncertain, "without a face": self.faceless, "unreadable": self.unreadable}
        return ", ".join([*parts, *(f"{count:,} {name}" for name, count in optional.items() if count)])


def _place(face: Face) -> str:
    return f"{face.bbox.x1:.0f}, {face.bbox.y1:.0f}, {face.bbox.width:.0f} x {face.bbox.height:.0f}"
