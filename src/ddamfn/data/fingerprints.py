"""What is kept of a picture to find it again: two digests and a 24x24 grey thumbnail."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ddamfn.data.dataset import Dataset, Sample
from ddamfn.errors import UnreadableImage

THUMB_PX = 24
"""Side of a thumbnail: enough for a face's arrangement, too little for its noise."""

_BATCH = 512


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Fingerprints of a data set's readable pictures, N of them.

    Attributes:
        samples: the samples, in the set's order.
        file_digests: SHA-256 of each file's bytes; of the pixels where a set has no files.
        pixel_digests: SHA-256 of each picture's size and RGB pixels.
        thumbs: (N, 24, 24) uint8 grey.
        unreadable: key -> why, for every picture that cannot be decoded.
    """

    samples: tuple[Sample, ...]
    file_digests: tuple[bytes, ...]
    pixel_digests: tuple[bytes, ...]
    thumbs: npt.NDArray[np.uint8]
    unreadable: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Print:
    """One picture's fingerprint, or why it has none."""

    file_digest: bytes = b""
    pixel_digest: bytes = b""
    thumb: npt.NDArray[np.uint8] | None = None
    error: str = ""


def take_fingerprints(
    dataset: Dataset, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Fingerprints:
    """Read every picture of a data set once.

    Args:
        dataset: the set; 100,000 pictures need about 80 MB.
        workers: threads (Pillow decodes outside Python's lock); one a core when None.
        progress: called with the pictures done and the pictures in all.
    """
    kept: list[Sample] = []
    prints: list[_Print] = []
    unreadable: dict[str, str] = {}
    thumbs = np.zeros((len(dataset.samples), THUMB_PX, THUMB_PX), dtype=np.uint8)
    for sample, found in _read_all(dataset, workers or os.cpu_count() or 1, progress):
        if found.thumb is None:
            unreadable[sample.key] = found.error
            continue
        thumbs[len(kept)] = found.thumb
        kept.append(sample)
        prints.append(found)
    return Fingerprints(
        samples=tuple(kept),
        file_digests=tuple(p.file_digest for p in prints),
        pixel_digests=tuple(p.pixel_digest for p in prints),
        thumbs=thumbs[: len(kept)],
        unreadable=unreadable,
    )


def _read_all(
    dataset: Dataset, workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Sample, _Print]]:
    """Yield every sample with its fingerprint, in order, a batch of pictures in memory at a time."""
    total = len(dataset.samples)
    # Set once around all threads, since the filters are global: odd metadata is no finding, a decompression bomb is.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, total, _BATCH):
            batch = dataset.samples[start : start + _BATCH]
            yield from zip(batch, pool.map(lambda s: _fingerprint(dataset, s), batch), strict=True)
            if progress is not None:
                progress(min(start + _BATCH, total), total)


def _fingerprint(dataset: Dataset, sample: Sample) -> _Print:
    """Read one picture; never raises on account of the picture."""
    try:
        content = dataset.read(sample)
        picture = _decode(content)
    except UnreadableImage as error:
        return _Print(error=str(error))
    except Image.DecompressionBombWarning as error:
        return _Print(error=f"{sample.key}: {error}")
    except (
        Exception
    ) as error:  # Pillow's plugins raise nearly anything on a damaged file, struct.error and SyntaxError too
        return _Print(error=f"{sample.key}: not a readable picture ({error})")
    if sample.bbox is not None:
        # One file may hold several labelled faces: what must not repeat is the face.
        left, top, right, bottom = (round(v) for v in sample.bbox)
        picture = picture.crop((left, top, right, bottom))
        place = repr(sample.bbox).encode()
    else:
        place = b""
    raw = content if isinstance(content, bytes) else content.tobytes()
    size = f"{picture.width}x{picture.height}:".encode()
    thumb = picture.convert("L").resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    return _Print(
        file_digest=hashlib.sha256(place + raw).digest(),
        pixel_digest=hashlib.sha256(size + picture.tobytes()).digest(),
        thumb=np.asarray(thumb),
    )


def _decode(content: bytes | npt.NDArray[np.uint8]) -> Image.Image:
    """Decode a file's bytes, or take pixels as they are, to RGB."""
    if not isinstance(content, bytes):
        return Image.fromarray(content).convert("RGB")
    if not content:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("RGB")
