"""Prepared sets in the user's cache: made once for training, and made again as far as their images have changed.

A set there never changes once it is complete. Its name ends with a hash of the state of all its images: with other
images, or other labels, it is another set, into which the crops of unchanged images are copied.
"""

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ddamfn.data import Progress, open_dataset
from ddamfn.data.dataset import Dataset
from ddamfn.environment import cache_folder
from ddamfn.errors import ConfigError, DataError
from ddamfn.faces import NETWORK_SHA256, Alignment
from ddamfn.files import exclusive
from ddamfn.preparation.prepared import (
    CARD_NAME,
    FORMAT,
    MANIFEST_NAME,
    Prepared,
    load_prepared,
    read_prepared_card,
    repair,
    verify,
)
from ddamfn.preparation.preparing import Plan, carry_out, check_done, fingerprint
from ddamfn.preparation.reuse import Reuse
from ddamfn.preparation.sources import marks_of, states_of

log = logging.getLogger(__name__)

_DIGITS = 12
_SET_NAME = re.compile(rf"(.*-[0-9a-f]{{{_DIGITS}}})-[0-9a-f]{{{_DIGITS}}}", re.DOTALL)
"""Place and state."""
_LONGEST_NAME = 100
"""Bytes of the data set's own name in a set's name."""
_DELETED = ".deleted"
_LOOK_AGAIN_S = 0.2
_SPARED_S = 24 * 3600.0
"""The last set before a change stays while it was used in the last day: a study may be reading it."""
_DECODERS = ("pillow", "pi-heif")
_OTHERWISE = "name another folder in XDG_CACHE_HOME"


@dataclass(frozen=True, slots=True)
class CachedSet:
    """A prepared set in the cache."""

    folder: Path
    source: str | None  # the data set's folder or file; None if it is not known
    alignment: Alignment | None
    images: int  # of its rows; 0 while it is not complete
    size_bytes: int
    used_at: float  # seconds since 1970


def sets_folder() -> Path:
    """Where prepared sets are kept: `prepared` in the package's cache.

    Raises:
        DataError: if there is no home folder to keep them in.
    """
    try:
        return cache_folder() / "prepared"
    except RuntimeError as error:
        raise DataError("there is no home folder for prepared images; name a folder in XDG_CACHE_HOME") from error


def open_prepared(
    root: Path,
    alignment: Alignment,
    progress: Progress | None = None,
    *,
    kind: str | None = None,
    tell: Callable[[str], None] = log.info,
) -> Prepared:
    """Open a prepared set, or prepare a data set of any known layout into the cache, as far as it has changed.

    A process that needs a set which another one is making waits for it. `tell` hears of that, and what was taken from
    where, in a line each.
    """
    if (root / CARD_NAME).exists():
        prepared = load_prepared(root)
        if prepared.alignment != alignment:
            raise ConfigError(
                f"{root} was aligned with {prepared.alignment}, the run asks for {alignment}; prepare the data set "
                "with the run's alignment, or change --set data.alignment.template, .margin and .side_px"
            )
        return prepared
    dataset = open_dataset(root, kind)
    states = states_of(dataset)
    place, total, anew = _place(root, alignment, kind), len(dataset.samples), 0
    folder = sets_folder() / f"{place}-{_hash(_state(dataset, states))}"
    try:
        if not _is_ready(folder):
            # Crops of faces are for their owner alone.
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(place, tell):
                # Another process may have made it in the meantime.
                anew = 0 if _is_ready(folder) else _make(root, dataset, states, folder, alignment, progress)
        with suppress(OSError):  # the cache may be for reading only
            os.utime(folder / CARD_NAME)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}; {_OTHERWISE}") from error
    parts = [f"{total - anew:,} from {folder.parent}"] if total > anew else []
    parts += [f"{anew:,} prepared anew"] if anew else []
    tell(f"prepared images: {', '.join(parts)}")
    return load_prepared(folder)


def cached_sets() -> list[CachedSet]:
    """List the prepared sets in the cache, the last used first."""
    try:
        folders = [entry for entry in sets_folder().iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(map(_describe, folders), key=lambda one: one.used_at, reverse=True)


def clear(found: CachedSet) -> None:
    """Delete a prepared set from the cache.

    Raises:
        DataError: if another process is making it, or it cannot be deleted.
    """
    try:
        with exclusive(_lock(_place_of(found.folder))) as alone:
            if not alone:
                raise DataError(f"{found.folder.name}: another process is making it; try again when it is done")
            _remove(found.folder)
    except OSError as error:
        raise DataError(f"{error.filename or found.folder}: {error.strerror or error}; delete it yourself") from error


def _make(
    root: Path, dataset: Dataset, states: Sequence[str], folder: Path, alignment: Alignment, progress: Progress | None
) -> int:
    """Make a set, with what earlier ones hold of the same images; return how many were prepared anew."""
    others = [other for other in folder.parent.iterdir() if _place_of(other) == _place_of(folder) and other != folder]
    others = sorted(filter(Path.is_dir, others), key=_used_at, reverse=True)
    wanted = {"format": FORMAT, "alignment": asdict(alignment), "detector": NETWORK_SHA256, "program": _program()}
    reuse = Reuse((other for other in others if wanted.items() <= _card(other).items()), alignment.side_px)
    plan = Plan(
        dataset, states, folder, alignment, reuse=reuse, notes={"program": _program(), "source": str(root.resolve())}
    )
    if folder.exists() and not _can_go_on(plan):
        _remove(folder)
    anew = carry_out(plan, workers=None, progress=progress, otherwise=_OTHERWISE)
    recent = (other for other in others if time.time() - _used_at(other) < _SPARED_S and _is_ready(other))
    spared = next(recent, None)
    for other in others:
        if other != spared:
            with suppress(OSError):
                _remove(other)
    return anew


@contextmanager
def _alone(place: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a place's lock, waiting for a process that has it."""
    waiting = False
    while True:
        with exclusive(_lock(place)) as alone:
            if alone:
                yield
                return
        if not waiting:
            tell("another process is preparing the same images; waiting until it has done so")
            waiting = True
        time.sleep(_LOOK_AGAIN_S)


def _place(root: Path, alignment: Alignment, kind: str | None) -> str:
    """Return the name that all sets of a data set with an alignment begin with."""
    whole = root.resolve()
    parts = "|".join(str(part) for part in (whole, alignment, kind) if part is not None)
    # A name of a file has at most 255 bytes.
    name = os.fsencode(whole.name)[:_LONGEST_NAME].decode(errors="ignore")
    return f"{name}-{_hash(parts)}"


def _place_of(folder: Path) -> str:
    """Return the place of a set; before images had states, sets were named by it alone."""
    match = _SET_NAME.fullmatch(folder.name)
    return match[1] if match else folder.name


def _state(dataset: Dataset, states: Sequence[str]) -> str:
    """Return everything that a set is made of, as text."""
    about = (FORMAT, NETWORK_SHA256, _program(), _decoders(), dataset.card.name, dataset.classes, dataset.note)
    return repr((about, fingerprint(dataset), list(map(marks_of, dataset.samples)), list(states)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


@cache
def _program() -> str:
    """Return a digest of the code that turns an image into a crop: crops of other code are made again."""
    sources = [entry for entry in files("ddamfn.faces").iterdir() if entry.name.endswith(".py")]
    sources.append(files("ddamfn.preparation").joinpath("image.py"))
    digest = hashlib.sha256()
    for source in sorted(sources, key=lambda entry: entry.name):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def _decoders() -> list[str]:
    """Return versions of the libraries that decode images: with another one an unreadable image is tried again."""
    found = []
    for name in _DECODERS:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def _is_ready(folder: Path) -> bool:
    """Tell whether a set is complete and whole."""
    try:
        prepared = load_prepared(folder)
        side_px = prepared.alignment.side_px
        for name in (MANIFEST_NAME, *(f"{split}.npy" for split in prepared.counts)):
            verify(folder / name, prepared.checksums)
        return all(
            np.load(folder / f"{split}.npy", mmap_mode="r").shape == (counts["images"], side_px, side_px, 3)
            for split, counts in prepared.counts.items()
        )
    except (DataError, OSError, ValueError):
        return False


def _can_go_on(plan: Plan) -> bool:
    """Tell whether an incomplete set was begun by the same plan."""
    try:
        card, manifest = read_prepared_card(plan.folder), plan.folder / MANIFEST_NAME
        if card is None or card.get("complete"):
            return False
        check_done(plan.dataset, manifest, repair(manifest))
    except DataError:
        return False
    return True


def _card(folder: Path) -> dict[str, Any]:
    """Return the card of a set; an empty one where it cannot be read."""
    try:
        return read_prepared_card(folder) or {}
    except DataError:
        return {}


def _used_at(folder: Path) -> float:
    try:
        return (folder / CARD_NAME).stat().st_mtime
    except OSError:
        return 0.0


def _lock(place: str) -> Path:
    return sets_folder() / f".{place}.lock"


def _remove(folder: Path) -> None:
    """Delete a set, which is gone at once for whoever looks for it."""
    for grave in folder.parent.glob(f".*{_DELETED}"):  # of processes that were killed
        shutil.rmtree(grave, ignore_errors=True)
    grave = folder.with_name(f".{folder.name}{_DELETED}")
    folder.rename(grave)
    shutil.rmtree(grave)


def _describe(folder: Path) -> CachedSet:
    """Return what is known of a set."""
    card = _card(folder)
    try:
        alignment = Alignment(**card["alignment"])
        images = sum(counts["images"] for counts in card["counts"].values())
    except (KeyError, TypeError, AttributeError, ConfigError):
        alignment, images = None, 0
    size = 0
    with suppress(OSError):  # another process may be deleting it
        size = sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())
    return CachedSet(folder, card.get("source"), alignment, images, size, _used_at(folder))
