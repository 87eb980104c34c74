"""Detect, align and store every image of a data set; a run that was stopped, or killed, goes on where it was."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddamfn.data import Progress
from ddamfn.data.dataset import Dataset
from ddamfn.errors import DataError, UsageError
from ddamfn.faces import NETWORK_SHA256, Alignment
from ddamfn.files import atomic_writer, crc32_file, exclusive, sync_file
from ddamfn.preparation.image import Hints, Outcome
from ddamfn.preparation.prepared import (
    CARD_NAME,
    FORMAT,
    LOCK_NAME,
    MANIFEST_NAME,
    Prepared,
    load_prepared,
    read_manifest,
    read_prepared_card,
    repair,
    to_line,
    write_prepared_card,
)
from ddamfn.preparation.reuse import EarlierRow, Reuse
from ddamfn.preparation.sources import (
    Source,
    marks_of,
    refuse_changed,
    repair_sources,
    states_of,
    to_source_line,
)
from ddamfn.preparation.workers import Bench, ImageTask, run
from ddamfn.threads import num_cores

_Reused = tuple[tuple[tuple[float, float], ...], float | None] | bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A preparation: what is made of what, and what is known already."""

    dataset: Dataset
    states: Sequence[str]  # of its images
    folder: Path
    alignment: Alignment
    landmarks: Mapping[str, _Reused] = field(default_factory=dict)  # of an earlier preparation with another alignment
    reuse: Reuse = field(default_factory=Reuse)  # rows of earlier ones with the same alignment
    notes: Mapping[str, Any] = field(default_factory=dict)  # for the card


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
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    folder = Path(destination)
    reused = {} if landmarks_from is None else _landmarks_of(load_prepared(landmarks_from), dataset)
    plan = Plan(dataset, states_of(dataset), folder, alignment, reused)
    with _alone_in(folder):
        refuse_changed(folder, dataset, plan.states)
        carry_out(plan, workers=workers, progress=progress, otherwise="choose another folder")
    return load_prepared(folder)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder while it is prepared; what was made for the lock alone is removed."""
    made = not folder.exists()
    try:
        with exclusive(folder / LOCK_NAME) as alone:
            if not alone:
                raise DataError(f"{folder}: another process is preparing images there; wait until it is done")
            yield
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}; choose another folder") from error
    finally:
        if not (folder / CARD_NAME).exists():
            with suppress(OSError):  # somebody put a file there
                (folder / LOCK_NAME).unlink()
                if made:
                    folder.rmdir()


def carry_out(plan: Plan, *, workers: int | None, progress: Progress | None, otherwise: str) -> int:
    """Write a prepared set, or finish it; return the number of images that were neither there nor reused.

    `otherwise` tells what the user can do, besides making room, where the disk refuses.
    """
    if not plan.dataset.samples:
        raise DataError(f"{plan.dataset.card.title} has no images here; check the folder")
    anew = 0
    try:
        card = _begin(plan)
        if not card["complete"]:
            anew = _fill(plan, num_cores() if workers is None else workers, progress)
            plan.reuse.take_along(plan.folder)
            _complete(plan, card)
    except OSError as error:
        place = error.filename or plan.folder
        raise DataError(
            f"{place}: {error.strerror or error}; make room or {otherwise}, then run again to go on"
        ) from error
    return anew


def _begin(plan: Plan) -> dict[str, Any]:
    """Create folder, card and arrays, or check that those there belong to the same preparation."""
    dataset, folder, alignment = plan.dataset, plan.folder, plan.alignment
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
        ours = (f".{CARD_NAME}.part", LOCK_NAME)
        if folder.exists() and any(entry.name not in ours for entry in folder.iterdir()):
            raise DataError(f"{folder} is not empty and holds no prepared set; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        card = {**wanted, **plan.notes, "complete": False, "counts": {}}
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


def _fill(plan: Plan, workers: int, progress: Progress | None) -> int:
    """Write a row for every image that the manifest does not name yet; return how many were prepared for it."""
    path, samples, total = plan.folder / MANIFEST_NAME, plan.dataset.samples, len(plan.dataset.samples)
    done = repair(path)
    check_done(plan.dataset, path, done)
    if progress is not None:
        progress(done, total)
    if len({sample.key for sample in samples[done:]}) != total - done:
        raise DataError(f"{plan.dataset.card.title}: two images have the same key; rename one")
    found = {i: plan.reuse.find(plan.dataset, samples[i], plan.states[i]) for i in range(done, total)}
    rows = _rows(plan.dataset)
    bench = Bench(plan.dataset.images, plan.alignment, plan.folder)
    with (
        repair_sources(plan.folder, done).open("a", encoding="utf-8", newline="") as sources,
        path.open("a", encoding="utf-8", newline="") as manifest,
        closing(run(_tasks(plan, found, rows), bench, workers)) as outcomes,
    ):
        for i, earlier in found.items():
            sample = samples[i]
            if earlier is None:
                _, outcome = next(outcomes)
            else:
                plan.reuse.take(earlier, plan.folder, sample.split, rows[i])
                outcome = replace(earlier.outcome, sha256=earlier.source.sha256)
            sources.write(to_source_line(Source(sample.key, plan.states[i], outcome.sha256, marks_of(sample))))
            sources.flush()
            manifest.write(to_line(sample, rows[i], outcome))
            # A row is on the disk's side before the next is begun, so that little is done twice after a kill.
            manifest.flush()
            if progress is not None:
                progress(i + 1, total)
    return sum(earlier is None for earlier in found.values())


def _complete(plan: Plan, card: Mapping[str, Any]) -> None:
    """Put the files on the disk, and then say that they are complete, with what tells later whether they still are."""
    manifest = plan.folder / MANIFEST_NAME
    check_done(plan.dataset, manifest, len(plan.dataset.samples))
    counts = _count(plan.folder)
    written = [manifest, *(plan.folder / f"{split}.npy" for split in counts)]
    for path in written:
        sync_file(path)
    checksums = {path.name: crc32_file(path) for path in written}
    write_prepared_card(plan.folder, {**card, "complete": True, "counts": counts, "checksums": checksums})


def check_done(dataset: Dataset, path: Path, done: int) -> None:
    """Make sure that the manifest's rows are the data set's first ones, in order."""
    keys = [row.key for row in read_manifest(path)]
    if len(keys) != done or keys != [s.key for s in dataset.samples[:done]]:
        raise DataError(f"{path}: its rows are not those of this data set; delete the folder and prepare again")


def _rows(dataset: Dataset) -> list[int]:
    """Return each image's place in the array of its split."""
    places: Counter[str] = Counter()
    rows = []
    for sample in dataset.samples:
        rows.append(places[sample.split])
        places[sample.split] += 1
    return rows


def _tasks(plan: Plan, found: Mapping[int, EarlierRow | None], rows: Sequence[int]) -> Iterator[ImageTask]:
    """Yield the work that is left: images of which no earlier row was found."""
    for i, earlier in found.items():
        if earlier is None:
            sample = plan.dataset.samples[i]
            hints = Hints(sample.landmarks, sample.bbox, plan.landmarks.get(sample.key))
            yield ImageTask(sample.key, sample.split, rows[i], sample.location, hints)


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
