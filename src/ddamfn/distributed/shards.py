"""A folder of shards: Parquet files of many images each, and a record of what their results depend on.

A shard appears as a whole or not at all, and names its images in the column "source": what is finished is what the
shards hold. Whatever reads the images, the same function writes a shard, and the same loop hands out the batches.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ddamfn import __version__
from ddamfn.adapters import arrow_schema, arrow_table
from ddamfn.distributed.batch import BatchRecognizer
from ddamfn.distributed.finished import Finished, digests
from ddamfn.distributed.places import Folder, open_folder
from ddamfn.errors import DdamfnError, UsageError
from ddamfn.files import sha256_bytes, utf8
from ddamfn.results import UNCERTAIN
from ddamfn.threads import map_ahead

RECORD = "_ddamfn.json"
"""The record's name; readers of Parquet folders leave out what begins with an underscore."""

SHARD_IMAGES = 1000
"""How many images a shard holds unless another number is asked for."""

_FORMAT = 1
_NAME = re.compile(r"part-\d{9,}-[0-9a-f]{12}\.parquet")
_SHARDS_READ_AT_ONCE = 8


@dataclass(frozen=True)
class Batch:
    """The images of one shard.

    Attributes:
        position: of the first image among all that are named.
        sources: names of the images: paths or addresses.
    """

    position: int
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """The shard's file name, by position and content: whoever writes the same batch writes the same file."""
        digest = sha256_bytes(b"\0".join(map(utf8, self.sources)))
        return f"part-{self.position:09}-{digest[:12]}.parquet"


@dataclass
class Done:
    """What is told of a batch: counts, and why images were not read; `failure` says why it was not written at all."""

    images: int
    faces: int = 0
    uncertain: int = 0
    faceless: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True)
class ShardTask:
    """Reads the images of batches, and writes their shards; it can be sent to another process.

    Attributes:
        recognizer: reads the images.
        folder: name of the folder of shards, absolute if it is one of this machine.
        base: the folder that relative paths of images start from.
    """

    recognizer: BatchRecognizer
    folder: str
    base: str

    def __call__(self, batch: Batch, advance: Callable[[], None] = lambda: None) -> Done:
        """Read a batch and write its shard.

        Args:
            batch: the images.
            advance: called after each image.

        Raises:
            PlaceError: images cannot be fetched, or the shard cannot be written.
        """
        import pyarrow.parquet

        done, rows = Done(len(batch.sources)), list[dict[str, Any]]()
        for result in self.recognizer.results(((source, None) for source in batch.sources), base=self.base):
            rows += result.to_rows()
            done.faces += len(result.faces)
            done.uncertain += sum(face.expression == UNCERTAIN for face in result.faces)
            if result.error is not None:
                done.errors.append((result.source, result.error))
            elif not result.faces:
                done.faceless += 1
            advance()
        stream = io.BytesIO()
        pyarrow.parquet.write_table(arrow_table(rows, arrow_schema(self.recognizer.columns)), stream)
        open_folder(self.folder).write(batch.name, stream.getvalue())
        return done


class Executor(Protocol):
    """Does batches, some at once."""

    @property
    def slots(self) -> int:
        """How many batches may be submitted and not ended."""

    @property
    def running(self) -> int:
        """How many are."""

    def submit(self, batch: Batch) -> None:
        """Take a batch."""

    def wait(self) -> Done:
        """Wait until a batch ends."""


class OneProcess:
    """Does a batch at a time in this process, on all of its cores."""

    def __init__(self, task: ShardTask, advance: Callable[[], None]) -> None:
        """Take what does a batch, and what is called after each image."""
        self._task, self._advance = task, advance
        self._waiting: list[Batch] = []

    @property
    def slots(self) -> int:
        """One batch is done at a time."""
        return 1

    @property
    def running(self) -> int:
        """Count the batches that were submitted and have not ended."""
        return len(self._waiting)

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        self._waiting.append(batch)

    def wait(self) -> Done:
        """Do a batch."""
        batch = self._waiting.pop(0)
        try:
            return self._task(batch, self._advance)
        except DdamfnError as error:
            return Done(len(batch.sources), failure=str(error))


def do_batches(batches: Iterable[Batch], executor: Executor) -> Iterator[Done]:
    """Yield what was done of each batch, in the order in which they end; one that failed does not stop the others.

    Raises:
        DdamfnError: more batches failed in a row than are done at once, so that others would fail too.
    """
    failures = 0

    def ended() -> Done:
        nonlocal failures
        done = executor.wait()
        failures = failures + 1 if done.failure is not None else 0
        if failures > executor.slots:
            raise DdamfnError(f"{failures:,} batches failed in a row, the last one: {done.failure}")
        return done

    for batch in batches:
        while executor.running >= executor.slots:
            yield ended()
        executor.submit(batch)
    while executor.running:
        yield ended()


def batches_of(sources: Iterable[str], finished: Finished, size: int) -> Iterator[Batch]:
    """Yield what is not finished in batches of a size, in order."""
    first, waiting = 0, list[str]()
    for position, source in enumerate(sources):
        if source in finished:
            continue
        first = first if waiting else position
        waiting.append(source)
        if len(waiting) == size:
            yield Batch(first, tuple(waiting))
            waiting = []
    if waiting:
        yield Batch(first, tuple(waiting))


def begin(folder: Folder, record: Mapping[str, Any]) -> Finished:
    """Write the record into a new folder, or compare it with that of an older run, and return what is finished.

    Args:
        folder: of shards; it need not exist.
        record: of `BatchRecognizer.record`.

    Raises:
        UsageError: the folder holds other files, or results that depend on something else.
        PlaceError: it cannot be read or written.
    """
    names = folder.names()
    shards = [name for name in names if _NAME.fullmatch(name)]
    record = json.loads(json.dumps({"format": _FORMAT, "ddamfn": __version__, **record}))
    if RECORD in names:
        _compare(folder, record)
    elif any(name.endswith(".parquet") for name in names):
        raise UsageError(f"{folder.name} holds Parquet files and no {RECORD}: name another folder")
    else:
        folder.write(RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    return Finished(map_ahead(partial(_sources, folder), shards, workers=_SHARDS_READ_AT_ONCE))


def _compare(folder: Folder, record: Mapping[str, Any]) -> None:
    try:
        before = json.loads(folder.read(RECORD))
        different = [name for name in record if before.get(name) != record[name]]
    except (ValueError, AttributeError):
        raise UsageError(f"{folder.name}: {RECORD} is damaged: name another folder") from None
    if different:
        # Of weights that differ their name says more than their digest.
        name = different[0].replace("sha256", "weights' network").replace("card", "weights' card")
        name = name.replace("_", " ")
        was, now = (json.dumps(values.get(different[0])) for values in (before, record))
        raise UsageError(
            f"{folder.name} was begun with {name} {was}, and this is {now}: use the same, or name another folder"
        )


def _sources(folder: Folder, name: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(folder.read(name)), columns=["source"])
        return digests(table.column("source").to_pylist())
    except (pyarrow.ArrowException, KeyError):
        place = f"{folder.name.rstrip('/')}/{name}"
        raise UsageError(f"{place} is damaged: delete it, and its images are read again") from None
