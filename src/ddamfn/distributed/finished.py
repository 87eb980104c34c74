"""Which images a run has finished: eight bytes each, so that millions of names need not be held."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ddamfn.files import utf8


class Finished:
    """The images whose rows are written, known by their names."""

    def __init__(self, parts: Iterable[NDArray[np.uint64]] = ()) -> None:
        """Join what `digests` returned."""
        # Of a hundred million names, two have the same digest with a chance of 1 in 3,000.
        self._digests = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))

    def __len__(self) -> int:
        """Count the images."""
        return len(self._digests)

    def __contains__(self, source: str) -> bool:
        """Whether an image is finished."""
        digest = _digest(source)
        place = int(np.searchsorted(self._digests, digest))
        return place < len(self._digests) and bool(self._digests[place] == digest)


def digests(sources: Iterable[str]) -> NDArray[np.uint64]:
    """Return uint64 (N,), a digest of each distinct name."""
    return np.array([_digest(source) for source in dict.fromkeys(sources)], dtype=np.uint64)


def _digest(source: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(utf8(source), digest_size=8).digest(), "big"))
