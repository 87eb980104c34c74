"""Exact and near duplicates, found by fingerprints of the images."""

import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ddamfn.data.dataset import Dataset, Progress, Sample
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.formats import open_image
from ddamfn.threads import map_ahead, num_cores

THUMB_PX = 24
"""Side of a thumbnail: enough for the layout of a face, too little for its noise."""

NEAR_CORRELATION = 0.985
"""Two thumbnails with a higher correlation are near-duplicates: one photograph, saved or cropped differently."""

DUPLICATE_KINDS = ("exact", "near")

_KNOWN = {"ferplus": "ferplus_duplicates.txt", "ferplus-fer2013new": "ferplus_duplicates.txt"}
"""Lists of duplicates that this package ships, by the name of a data set's card."""

_AHEAD = 512
# Blocks of the correlation matrix: 1,024 x 8,192 float32 are 32 MB, whatever the size of the set.
_ROWS, _COLUMNS = 1024, 8192


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Fingerprints of a data set's N readable images."""

    samples: tuple[Sample, ...]  # in the set's order
    pixel_digests: tuple[bytes, ...]  # SHA-256 of each image's size and RGB pixels
    thumbs: npt.NDArray[np.uint8]  # (N, 24, 24) grayscale
    unreadable: dict[str, str]  # key -> reason


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image that also occurs in another split."""

    key: str
    other_key: str  # the most similar image of `other_split`
    split: str
    other_split: str
    correlation: float  # of their thumbnails
    exact: bool  # all pixels are equal


def take_fingerprints(dataset: Dataset, workers: int | None = None, progress: Progress | None = None) -> Fingerprints:
    """Read every image of a data set once, in threads; 100,000 images need about 80 MB."""
    kept: list[Sample] = []
    digests: list[bytes] = []
    unreadable: dict[str, str] = {}
    thumbs = np.zeros((len(dataset.samples), THUMB_PX, THUMB_PX), dtype=np.uint8)
    for sample, found in _read_all(dataset, workers or num_cores(), progress):
        if isinstance(found, str):
            unreadable[sample.key] = found
            continue
        digest, thumbs[len(kept)] = found
        kept.append(sample)
        digests.append(digest)
    return Fingerprints(tuple(kept), tuple(digests), thumbs[: len(kept)], unreadable)


def _read_all(
    dataset: Dataset, workers: int, progress: Progress | None
) -> Iterator[tuple[Sample, tuple[bytes, npt.NDArray[np.uint8]] | str]]:
    """Yield every sample with its fingerprint, in order, a few ahead."""
    total = len(dataset.samples)
    # Set once around all threads, since the filters are global: odd metadata is no finding, a decompression bomb is.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = map_ahead(partial(_fingerprint, dataset), dataset.samples, workers=workers, ahead=_AHEAD)
        for done, (sample, fingerprint) in enumerate(zip(dataset.samples, found, strict=True), start=1):
            yield sample, fingerprint
            if progress is not None and (done % _AHEAD == 0 or done == total):
                progress(done, total)


def _fingerprint(dataset: Dataset, sample: Sample) -> tuple[bytes, npt.NDArray[np.uint8]] | str:
    """Return the digest of an image's pixels and its thumbnail, or why the image is unreadable."""
    try:
        image = _decode(dataset.read(sample))
    except UnreadableImage as error:
        return str(error)
    except Image.DecompressionBombWarning as error:
        return f"{sample.key}: {error}"
    # Pillow's plugins raise nearly anything on a damaged file, struct.error and SyntaxError too.
    except Exception as error:
        return f"{sample.key}: not a readable image ({error})"
    if sample.bbox is not None:
        # One file may hold several labeled faces: what must not repeat is the face.
        left, top, right, bottom = (round(v) for v in sample.bbox)
        image = image.crop((left, top, right, bottom))
    size = f"{image.width}x{image.height}:".encode()
    thumb = image.convert("L").resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    return hashlib.sha256(size + image.tobytes()).digest(), np.asarray(thumb)


def _decode(content: bytes | npt.NDArray[np.uint8]) -> Image.Image:
    """Turn a file's bytes, or pixels, into an RGB image."""
    if not isinstance(content, bytes):
        return Image.fromarray(content).convert("RGB")
    if not content:
        raise ValueError("the file is empty")
    with open_image(io.BytesIO(content)) as image:
        return image.convert("RGB")


def exact_groups(prints: Fingerprints) -> list[list[int]]:
    """Return the groups of positions in `prints.samples` whose pixels are equal, ordered by their first member."""
    by_pixels: dict[bytes, list[int]] = defaultdict(list)
    # Equal bytes decode to equal pixels, so this finds identical files and losslessly re-saved copies alike.
    for position, digest in enumerate(prints.pixel_digests):
        by_pixels[digest].append(position)
    return [group for group in by_pixels.values() if len(group) > 1]


def exact_duplicates(prints: Fingerprints, split: str, other_split: str) -> list[Duplicate]:
    """Return the images of `split` that occur in `other_split` with equal pixels."""
    others: dict[bytes, str] = {}
    for sample, digest in zip(prints.samples, prints.pixel_digests, strict=True):
        if sample.split == other_split:
            others.setdefault(digest, sample.key)
    return [
        Duplicate(sample.key, others[digest], split, other_split, 1.0, exact=True)
        for sample, digest in zip(prints.samples, prints.pixel_digests, strict=True)
        if sample.split == split and digest in others
    ]


def near_duplicates(
    prints: Fingerprints,
    split: str,
    other_split: str,
    threshold: float = NEAR_CORRELATION,
    progress: Progress | None = None,
) -> list[Duplicate]:
    """Return the best match in `other_split` of each image of `split` that correlates with it above a threshold.

    Pearson correlation of 24x24 grayscale thumbnails; it includes exact duplicates, but no uniform images, which
    correlate with nothing.
    """
    rows = np.array([i for i, s in enumerate(prints.samples) if s.split == split], dtype=np.intp)
    columns = np.array([i for i, s in enumerate(prints.samples) if s.split == other_split], dtype=np.intp)
    found = []
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        best, where = _best_matches(_standardized(prints.thumbs[block]), prints.thumbs, columns)
        for row, correlation, column in zip(block, best, where, strict=True):
            if correlation > threshold:
                sample, other = prints.samples[row], prints.samples[column]
                exact = prints.pixel_digests[row] == prints.pixel_digests[column]
                found.append(Duplicate(sample.key, other.key, split, other_split, float(correlation), exact))
        if progress is not None:
            progress(min(start + _ROWS, len(rows)), len(rows))
    return found


def _best_matches(
    block: npt.NDArray[np.float32], thumbs: npt.NDArray[np.uint8], columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return the highest correlation of each row with the columns' images, and the position of that image."""
    best = np.full(len(block), -1.0, dtype=np.float32)
    where = np.zeros(len(block), dtype=np.intp)
    for start in range(0, len(columns), _COLUMNS):
        part = columns[start : start + _COLUMNS]
        product = block @ _standardized(thumbs[part]).T
        top = product.argmax(axis=1)
        value = product[np.arange(len(block)), top]
        better = value > best
        best[better], where[better] = value[better], part[top[better]]
    # Rounding can lift a perfect match a hair above 1.
    return np.minimum(best, 1.0), where


def _standardized(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return (N, 24, 24) uint8 as (N, 576) float32 with mean 0 and norm 1; zeros for uniform images."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True))
    # Below a thousandth of a gray step an image has no pattern, and dividing would make one out of rounding errors.
    length[length < 1e-3] = np.inf
    standard: npt.NDArray[np.float32] = flat / length
    return standard


def duplicates(dataset: Dataset, *, near: bool = False, workers: int | None = None) -> set[str]:
    """Return the keys of evaluation images that also occur in train; empty for a set without a `train` split.

    The official FERPlus splits have a shipped list, which needs neither a scan nor the train split.
    """
    kinds = DUPLICATE_KINDS if near else DUPLICATE_KINDS[:1]
    evaluated = [split for split in dataset.splits if split != "train"]
    unknown = [split for split in evaluated if not _is_listed(dataset, split)]
    present = {sample.key for sample in dataset.samples if sample.split not in ("train", *unknown)}
    found = present & known_duplicates(dataset.card.name, kinds)
    if unknown and "train" in dataset.splits:
        samples = tuple(sample for sample in dataset.samples if sample.split in ("train", *unknown))
        prints = take_fingerprints(replace(dataset, samples=samples), workers)
        for split in unknown:
            pairs = exact_duplicates(prints, split, "train") + (near_duplicates(prints, split, "train") if near else [])
            found |= {pair.key for pair in pairs}
    return found


def _is_listed(dataset: Dataset, split: str) -> bool:
    """Tell whether the shipped list covers a split, which must have the official number of images."""
    count = sum(sample.split == split for sample in dataset.samples)
    return dataset.card.name in _KNOWN and count == dataset.card.sizes.get(split)


def known_duplicates(name: str, kinds: Iterable[str] = ("exact",)) -> set[str]:
    """Return the shipped keys of evaluation images that also occur in train; `near` excludes the exact ones."""
    wanted = set(kinds)
    if unknown := wanted - set(DUPLICATE_KINDS):
        raise UsageError(f"duplicates are {' or '.join(DUPLICATE_KINDS)}, not {', '.join(sorted(unknown))}")
    if name not in _KNOWN:
        return set()
    text = resources.files("ddamfn.data").joinpath(_KNOWN[name]).read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {key for key, kind in rows if kind in wanted}


def write_duplicates(dataset: Dataset, path: Path, workers: int | None = None) -> int:
    """Write the list that this package ships, each line a key and `exact` or `near`; return the number of lines.

    `src/ddamfn/data/ferplus_duplicates.txt` is `write_duplicates(open_dataset(root, "ferplus"), path)`.
    """
    prints = take_fingerprints(dataset, workers)
    kinds: dict[str, str] = {}
    for split in dataset.splits:
        if split != "train":
            kinds |= {duplicate.key: "near" for duplicate in near_duplicates(prints, split, "train")}
            kinds |= {duplicate.key: "exact" for duplicate in exact_duplicates(prints, split, "train")}
    head = f"# {dataset.card.title}: evaluation images that also stand in train, exactly or nearly "
    head += f"(24x24 gray correlation above {NEAR_CORRELATION}).\n"
    path.write_text(head + "".join(f"{key} {kind}\n" for key, kind in sorted(kinds.items())), encoding="utf-8")
    return len(kinds)
