"""Detect, align and store every image of a data set; a run that was stopped, or killed, goes on where it was."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ddamfn.data import Progress, open_dataset
from ddamfn.data.dataset import Dataset
from ddamfn.errors import ConfigError, DataError, UsageError
from ddamfn.faces import NETWORK_SHA256, Alignment
from ddamfn.files import atomic_writer
from ddamfn.preparation.image import Hints, Outcome
from ddamfn.preparation.prepared import (
    CARD_NAME,
    FORMAT,
    MANIFEST_NAME,
    Prepared,
    load_prepared,
    read_manifest,
    read_prepared_card,
    repair,
    to_line,
    write_prepared_card,
)
from ddamfn.preparation.workers import Bench, ImageTask, run

_Reused = tuple[tuple[tuple[float, float], ...], float | None] | bool


def open_prepared(
    root: Path, alignment: Alignment, progress: Progress | None = None, *, kind: str | None = None
) -> Prepared:
    """Open a prepared set, or prepare a data set of any known layout once into `cache_folder()`."""
    if (root / CARD_NAME).exists():
        prepared = load_prepared(root)
        if prepared.alignment != alignment:
            raise ConfigError(
                f"{root} was aligned with {prepared.alignment}, the run asks for {alignment}; prepare the data set "
                "with the run's alignment, or change --set data.alignment.template, .margin and .side_px"
            )
        return prepared
    name = "|".join(str(part) for part in (root.resolve(), alignment, kind) if part is not None)
    folder = cache_folder() / f"{root.resolve().name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return prepare(open_dataset(root, kind), folder, alignment, progress=progress)


def cache_folder() -> Path:
    """Where prepared sets are kept: `$XDG_CACHE_HOME/ddamfn/prepared`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ddamfn" / "prepared"


def prepare(
    dataset: Dataset,
    destination: str | Path,
    alignment: Alignment,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    landmarks_from: str | Path | None = None,
) -> Prepared:
    """Write a prepared set, one aligned crop and one manifest row per image, or finish one that was stopped.

    An unreadable image leaves a black row, and its reason in the manifest. The result does not depend on `workers`;
    processes are spawned, so with several the caller's script needs `if __name__ == "__main__":`. `landmarks_from` is a
    prepared set of the same data whose landmarks are used again.
    """
    count = _default_workers() if workers is None else workers
    if count < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    if not dataset.samples:
        raise DataError(f"{dataset.card.title} has no images here; check the folder")
    folder = Path(destination)
    reused = {} if landmarks_from is None else _landmarks_of(load_prepared(landmarks_from), dataset)
    try:
        card = _begin(dataset, folder, alignment)
        if not card["complete"]:
            _fill(dataset, folder, alignment, count, progress, reused)
            write_prepared_card(folder, {**card, "complete": True, "counts": _count(folder)})
    except OSError as error:
        place = error.filename or folder
        raise DataError(
            f"{place}: {error.strerror or error}; make room or choose another folder, then run again to go on"
        ) from error
    return load_prepared(folder)


def _default_workers() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _begin(dataset: Dataset, folder: Path, alignment: Alignment) -> dict[str, Any]:
    """Create folder, card and arrays, or check that those there belong to the same preparation."""
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "dataset": dataset.card.name,
        "note": dataset.note,
        "classes": list(dataset.classes),
        "votes": any(sample.votes is not None for sample in dataset.samples),
        "alignment": asdict(alignment),
        "detector": NETWORK_SHA256,
        "samples": fingerprint(dataset),
    }
    card = read_prepared_card(folder)
    if card is None:
        if folder.exists() and any(entry.name != f".{CARD_NAME}.part" for entry in folder.iterdir()):
            raise DataError(f"{folder} is not empty and holds no prepared set; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        card = {**wanted, "complete": False, "counts": {}}
        write_prepared_card(folder, card)
    different = [name for name, value in wanted.items() if card.get(name) != value]
    if different:
        raise DataError(
            f"{folder} holds another preparation (different {', '.join(different)}); choose another folder or delete it"
        )
    if not card["complete"]:
        for split, images in Counter(s.split for s in dataset.samples).items():
            _allocate(folder / f"{split}.npy", (images, alignment.side_px, alignment.side_px, 3))
    return card


def fingerprint(dataset: Dataset) -> str:
    """Hash what the manifest repeats of a data set, so that a changed one is not mixed with its old self."""
    digest = hashlib.sha256()
    for s in dataset.samples:
        digest.update(repr((s.key, s.split, s.label, s.votes, s.subject, s.group)).encode())
    return digest.hexdigest()


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Create an array file of zeros with all of its space on the disk, unless it exists."""
    if path.exists():
        return
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    with atomic_writer(path) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        size = stream.tell() + int(np.prod(shape))
        stream.flush()
        # Space is taken now: with a sparse file a full disk would later end the process with a bus error and no
        # message.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)


def _fill(
    dataset: Dataset,
    folder: Path,
    alignment: Alignment,
    workers: int,
    progress: Progress | None,
    reused: dict[str, _Reused],
) -> None:
    """Prepare every image that the manifest does not name yet."""
    path = folder / MANIFEST_NAME
    done = repair(path)
    _check_done(dataset, path, done)
    total = len(dataset.samples)
    if progress is not None:
        progress(done, total)
    samples = {s.key: s for s in dataset.samples[done:]}
    if len(samples) != total - done:
        raise DataError(f"{dataset.card.title}: two images have the same key; rename one")
    with path.open("a", encoding="utf-8", newline="") as manifest:
        for task, outcome in run(_tasks(dataset, done, reused), Bench(dataset.images, alignment, folder), workers):
            manifest.write(to_line(samples[task.key], task.row, outcome))
            # A row is on the disk's side before the next is begun, so that little is done twice after a kill.
            manifest.flush()
            done += 1
            if progress is not None:
                progress(done, total)


def _check_done(dataset: Dataset, path: Path, done: int) -> None:
    """Make sure that the manifest's rows are the data set's first ones, in order."""
    keys = [row.key for row in read_manifest(path)]
    if len(keys) != done or keys != [s.key for s in dataset.samples[:done]]:
        raise DataError(f"{path}: its rows are not those of this data set; delete the folder and prepare again")


def _tasks(dataset: Dataset, done: int, reused: dict[str, _Reused]) -> Iterator[ImageTask]:
    places: Counter[str] = Counter()
    for index, sample in enumerate(dataset.samples):
        if index >= done:
            hints = Hints(sample.landmarks, sample.bbox, reused.get(sample.key))
            yield ImageTask(sample.key, sample.split, places[sample.split], sample.location, hints)
        places[sample.split] += 1


def _landmarks_of(earlier: Prepared, dataset: Dataset) -> dict[str, _Reused]:
    """Return what an earlier preparation found, by key; unreadable images are tried again."""
    if earlier.dataset != dataset.card.name or earlier.detector != NETWORK_SHA256:
        raise DataError(
            f"{earlier.folder} was made from {earlier.dataset} or with another detector; leave out its landmarks"
        )
    found: dict[str, _Reused] = {}
    for row in earlier.manifest():
        outcome: Outcome = row.outcome
        if outcome.landmarks is not None:
            points = tuple((float(x), float(y)) for x, y in outcome.landmarks)
            found[row.key] = (points, outcome.score)
        elif not outcome.error:
            found[row.key] = False
    return found


def _count(folder: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in read_manifest(folder / MANIFEST_NAME):
        split = counts.setdefault(row.split, dict.fromkeys(("images", "found", "given", "resized", "unreadable"), 0))
        split["images"] += 1
        split["unreadable" if row.outcome.error else "found" if row.outcome.found else "resized"] += 1
        split["given"] += row.outcome.found and row.outcome.score is None
    return counts
