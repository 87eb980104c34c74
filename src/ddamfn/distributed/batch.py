"""A recognizer for data engines: a batch of images in, a table of their faces out."""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddamfn.distributed.places import fetch
from ddamfn.errors import PlaceError, UsageError
from ddamfn.files import is_address, sha256_bytes, utf8
from ddamfn.recognizer import Recognizer
from ddamfn.results import TEXT_COLUMNS, ImageResult, row_columns
from ddamfn.threads import map_ahead
from ddamfn.weights import Card, find_weights

if TYPE_CHECKING:
    import pandas

    from ddamfn.faces import DetectionMode
    from ddamfn.faces.sessions import Providers
    from ddamfn.weights import ClassPrior

# Waiting for another machine needs no core; so many files of an address are held at once.
_FETCHED_AHEAD = 8
# After so many in a row it is not the images that are at fault.
_MOST_FAILURES_IN_A_ROW = 10
_CONTENT_COLUMNS = ("bytes", "content")

Entry = tuple[str, bytes | None]
"""An image's name, and its content; without a content the name is a path or an address."""


class BatchRecognizer:
    """Reads batches of images for Ray Data, Spark, Daft and the like.

    It is pickled by its arguments; the networks are loaded at the first call in each process.

    Examples:
        >>> from ddamfn.distributed import BatchRecognizer
        >>> recognizer = BatchRecognizer(max_faces=1)
        >>> faces = recognizer({"path": ["photo.jpg"]})  # doctest: +SKIP
        >>> faces["expression"]  # doctest: +SKIP

    Args:
        weights: as for `ddamfn.Recognizer`, as are all others; a path must lead to the same file on every machine.
        min_detection_score: likewise.
        max_faces: likewise.
        detection: likewise.
        batch_size: likewise.
        num_threads: likewise, but 1 unless said otherwise: data engines start a process per core.
        min_precision: likewise.
        class_prior: likewise.
        providers: likewise.
        shrink_on_load: likewise.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        min_detection_score: float = 0.5,
        max_faces: int | None = None,
        detection: "DetectionMode" = "auto",
        batch_size: int = 16,
        num_threads: int | None = 1,
        min_precision: float | None = None,
        class_prior: "ClassPrior" = "training",
        providers: "Providers | None" = None,
        shrink_on_load: bool = True,
    ) -> None:
        self._options: dict[str, Any] = {
            "min_detection_score": min_detection_score,
            "max_faces": max_faces,
            "detection": detection,
            "min_precision": min_precision,
            "class_prior": class_prior,
            "shrink_on_load": shrink_on_load,
        }
        self._setting: dict[str, Any] = {
            "weights": weights,
            "batch_size": batch_size,
            "num_threads": num_threads,
            "providers": providers,
        }
        self._recognizer: Recognizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the networks behind."""
        return vars(self) | {"_recognizer": None}

    @property
    def recognizer(self) -> Recognizer:
        """The recognizer, loaded when it is first asked for.

        Raises:
            WeightsError: there are no such weights, or they are damaged.
            UsageError: an argument is out of range.
        """
        if self._recognizer is None:
            self._recognizer = Recognizer(**self._setting, **self._options)
        return self._recognizer

    @property
    def card(self) -> Card:
        """The weights' card, read without the networks."""
        return find_weights(self._setting["weights"])[1]

    @property
    def columns(self) -> list[str]:
        """The names of the columns: those of `ddamfn.results.row_columns`."""
        return row_columns(self.card.labels)

    @property
    def sql_schema(self) -> str:
        """The columns and their types in SQL, as Spark's `mapInPandas` takes them."""
        kinds = dict.fromkeys(TEXT_COLUMNS, "string") | {"face": "int"}
        return ", ".join(f"`{name}` {kinds.get(name, 'double')}" for name in self.columns)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Read a batch of images.

        Args:
            batch: columns by name. "bytes" or "content" has the files' contents, "path" their paths or addresses (such
                as `s3://bucket/photo.jpg`); with both, the paths are names alone. A content that is null is an image
                that cannot be read. Other columns are ignored.

        Returns:
            The columns of CSV and Parquet files, one row a face, and one for each image that has none or cannot be
            read, whose `error` then says why. Texts are object arrays with None, all others float64 with NaN, where
            there is nothing.

        Raises:
            UsageError: the batch has none of these columns.
            PlaceError: ten files in a row, or all of a batch, could not be fetched from their addresses.
        """
        rows = [row for result in self.results(_entries(batch)) for row in result.to_rows()]
        columns: dict[str, NDArray[Any]] = {}
        for name in self.columns:
            values = [row[name] for row in rows]
            if name in TEXT_COLUMNS:
                columns[name] = np.empty(len(values), dtype=object)
                columns[name][:] = [None if value is None else utf8(value).decode() for value in values]
            else:
                columns[name] = np.array(values, dtype=np.float64)
        return columns

    def map_pandas(self, frames: Iterable["pandas.DataFrame"]) -> Iterator["pandas.DataFrame"]:
        """Read the images of pandas tables, as Spark's `mapInPandas` gives them: `df.mapInPandas(r.map_pandas, ...)`.

        Args:
            frames: each with the columns that a call takes.

        Yields:
            A table of faces for each, with the types of `sql_schema`.
        """
        import pandas

        for frame in frames:
            faces = pandas.DataFrame(self({str(name): frame[name].to_numpy() for name in frame.columns}))
            yield faces.astype({"face": "Int32"})

    def results(self, entries: Iterable[Entry], *, base: str = "") -> Iterator[ImageResult]:
        """Yield the result of each image, in order; files of addresses are fetched ahead.

        Args:
            entries: names with contents, or names that are paths or addresses.
            base: the folder that relative paths start from.

        Raises:
            PlaceError: as for a call.
        """
        coming: deque[tuple[str, str | None]] = deque()
        failures = _Failures()

        def inputs() -> Iterator[str | bytes]:
            for name, content in map_ahead(_content, entries, workers=_FETCHED_AHEAD):
                failed = isinstance(content, PlaceError)
                if is_address(name):
                    failures.count(content if isinstance(content, PlaceError) else None)
                coming.append((name, content.reason if isinstance(content, PlaceError) else None))
                # In the place of a file that was not fetched; the result is replaced.
                yield b"" if failed else content if isinstance(content, bytes) else str(Path(base, name))

        recognizer = self.recognizer
        for result in recognizer.predict_many(inputs()):
            name, reason = coming.popleft()
            if reason is not None:
                yield ImageResult(name, None, None, error=reason, classes=recognizer.card.labels)
            else:
                yield replace(result, source=name)
        failures.end()

    def record(self) -> dict[str, Any]:
        """Return what results depend on, as plain values: the weights, their card, and the options."""
        card = self.card
        # Scores that are measured later change no result.
        plain = {name: value for name, value in card.to_dict().items() if name != "scores"}
        return {
            "weights": card.name,
            "sha256": card.sha256,
            "card": sha256_bytes(json.dumps(plain, sort_keys=True).encode())[:16],
            "classes": list(card.labels),
            **self._options,
        }


class _Failures:
    """Tells images that cannot be fetched from a place that cannot be reached."""

    def __init__(self) -> None:
        self._in_a_row = self._fetched = 0
        self._last: PlaceError | None = None

    def count(self, error: PlaceError | None) -> None:
        """Count one file; raise the error if it is one too many."""
        if error is None or error.is_missing:
            self._in_a_row, self._fetched = 0, self._fetched + 1
            return
        self._in_a_row, self._last = self._in_a_row + 1, error
        if self._in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise error

    def end(self) -> None:
        """Raise the last error if every file failed."""
        if self._last is not None and not self._fetched:
            raise self._last


def _content(entry: Entry) -> tuple[str, bytes | PlaceError | None]:
    name, content = entry
    if content is not None or not is_address(name):
        return name, content
    try:
        return name, fetch(name)
    except PlaceError as error:
        return name, error


def _entries(batch: Mapping[str, Any]) -> Iterator[Entry]:
    contents = next((batch[name] for name in _CONTENT_COLUMNS if name in batch), None)
    paths = batch.get("path")
    if contents is not None:
        names = ["<bytes>"] * len(contents) if paths is None else paths
        for name, content in zip(names, contents, strict=True):
            yield os.fspath(name), b"" if content is None else bytes(content)
    elif paths is not None:
        yield from ((os.fspath(path), None) for path in paths)
    else:
        raise UsageError(f"a batch needs a column 'bytes' or 'path', and has {', '.join(map(repr, batch)) or 'none'}")
