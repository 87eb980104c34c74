"""A recognizer that waits, for the workers of `test_cluster.py`, which find this module by their PYTHONPATH."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ddamfn.distributed import BatchRecognizer
from ddamfn.distributed.batch import Entry
from ddamfn.results import ImageResult


class HeldRecognizer(BatchRecognizer):
    """Tells by a file that it has begun, and waits for the file "go"."""

    def results(self, entries: Iterable[Entry], *, base: str = "") -> Iterator[ImageResult]:
        folder = Path(os.environ["HELD"])
        (folder / f"begun-{os.getpid()}").touch()
        while not (folder / "go").exists():
            time.sleep(0.005)
        return super().results(entries, base=base)
