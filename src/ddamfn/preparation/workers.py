"""All cores on a list of images: processes that write crops straight into the prepared arrays.

Processes are spawned, so a script that calls `prepare` with several workers must guard its entry with
`if __name__ == "__main__":`. An image that crashes its process (a fault in a native decoder) is found and marked, and
the others go on.
"""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddamfn.data.dataset import ImageSource
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.faces import Alignment, RetinaFace
from ddamfn.preparation.image import Hints, Outcome, prepare_image, unreadable
from ddamfn.preparation.sources import digest_of

log = logging.getLogger(__name__)

_CHUNK = 16
_CHUNKS_AHEAD = 4


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to prepare: its place in the arrays and where to read it."""

    key: str
    split: str
    row: int
    location: Any
    hints: Hints


@dataclass(slots=True)
class Bench:
    """What a process needs to prepare images; detector and arrays are opened on first use, in the process itself."""

    images: ImageSource
    alignment: Alignment
    folder: Path
    _detector: RetinaFace | None = field(default=None, init=False)
    _arrays: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict, init=False)

    def __getstate__(self) -> tuple[ImageSource, Alignment, Path]:
        """Leave the detector and the arrays behind: each process opens its own."""
        return self.images, self.alignment, self.folder

    def __setstate__(self, state: tuple[ImageSource, Alignment, Path]) -> None:
        """Start afresh from what was pickled."""
        self.images, self.alignment, self.folder = state
        self._detector, self._arrays = None, {}

    def work(self, task: ImageTask) -> Outcome:
        """Prepare one image and write its crop, or leave the row black if it is unreadable."""
        # Outside the `try`: what is wrong here is wrong for every image, and must stop the run.
        array, detector = self._array(task.split), self._get_detector()
        digest = ""
        try:
            content = self.images.read(task.location)
            digest = digest_of(content)
            outcome, pixels = prepare_image(content, task.hints, detector, self.alignment)
        except UnreadableImage as error:
            return replace(unreadable(error), sha256=digest)
        except Exception as error:
            # One bad file never ends the run, whichever exception a decoder invents for it.
            log.debug("%s", task.key, exc_info=True)
            return replace(unreadable(error), sha256=digest)
        array[task.row] = pixels
        return replace(outcome, sha256=digest)

    def _get_detector(self) -> RetinaFace:
        if self._detector is None:
            # One thread: every core already has a process of its own.
            self._detector = RetinaFace(num_threads=1)
        return self._detector

    def _array(self, split: str) -> npt.NDArray[np.uint8]:
        if split not in self._arrays:
            self._arrays[split] = np.load(self.folder / f"{split}.npy", mmap_mode="r+")
        return self._arrays[split]


def run(tasks: Iterable[ImageTask], bench: Bench, workers: int) -> Generator[tuple[ImageTask, Outcome], None, None]:
    """Prepare images on several processes, or in this one for 1, and yield the outcomes in the order of the tasks."""
    if workers == 1:
        for task in tasks:
            yield task, bench.work(task)
        return
    source = iter(tasks)
    chunks = iter(lambda: list(islice(source, _CHUNK)), [])
    waiting: deque[tuple[list[ImageTask], Future[list[Outcome]]]] = deque()
    pool = _pool(bench, workers)
    try:
        while True:
            for chunk in islice(chunks, workers * _CHUNKS_AHEAD - len(waiting)):
                waiting.append((chunk, _submit(pool, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                yield from zip(chunk, future.result(), strict=True)
            except BrokenProcessPool:
                # It is unknown which of the waiting images ended a process, so all of them are done again one by one.
                suspects = [*chunk, *(task for others, _ in waiting for task in others)]
                waiting.clear()
                yield from _one_by_one(suspects, bench)
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(bench, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: Sequence[ImageTask]) -> Future[list[Outcome]]:
    """Submit a chunk; a pool that has just broken gives a failed future, like one that breaks later."""
    try:
        return pool.submit(_work_all, chunk)
    except BrokenProcessPool as error:
        future: Future[list[Outcome]] = Future()
        future.set_exception(error)
        return future


def _one_by_one(tasks: Sequence[ImageTask], bench: Bench) -> Iterator[tuple[ImageTask, Outcome]]:
    """Prepare images one at a time in a process of their own, and mark those that end it."""
    pool = _proven_pool(bench)
    try:
        for task in tasks:
            try:
                outcome = pool.submit(_work_all, [task]).result()[0]
            except BrokenProcessPool:
                log.warning("%s ended its process and is marked unreadable", task.key)
                outcome = Outcome(False, error="the decoder crashed on this image; replace the file")
                pool.shutdown(wait=False)
                pool = _proven_pool(bench)
            yield task, outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _proven_pool(bench: Bench) -> ProcessPoolExecutor:
    """Start one process and make sure that it works at all: otherwise every image would be called a crash."""
    pool = _pool(bench, 1)
    try:
        pool.submit(_work_all, []).result()
    except BrokenProcessPool as error:
        pool.shutdown(wait=False)
        raise UsageError(
            "worker processes cannot start: guard the script with if __name__ == '__main__', or use one worker"
        ) from error
    return pool


def _pool(bench: Bench, workers: int) -> ProcessPoolExecutor:
    # Spawned, never forked: ONNX Runtime's threads do not survive a fork.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(bench,))


_bench: Bench | None = None


def _start(bench: Bench) -> None:
    """Set up a worker process: it leaves Ctrl-C to its parent, and ends when its parent is gone."""
    global _bench  # noqa: PLW0603 - a worker process has one
    _bench = bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker holds both ends of its own queue, so it would wait forever after its parent was killed.
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work_all(tasks: Sequence[ImageTask]) -> list[Outcome]:
    if _bench is None:
        raise RuntimeError("the worker process was not set up")
    return [_bench.work(task) for task in tasks]
