"""Dynamic batching: one recognizer finds faces of many requests in threads and classifies them together."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from ddamfn.faces import DetectionMode
from ddamfn.finder import FoundFaces
from ddamfn.recognizer import Recognizer
from ddamfn.results import ImageResult
from ddamfn.serve.guard import Metrics
from ddamfn.serve.problems import RETRY, Problem
from ddamfn.serve.settings import Settings
from ddamfn.weights import ClassPrior

_Waiting = tuple[FoundFaces, asyncio.Future[ImageResult]]


@dataclass(frozen=True, slots=True)
class Options:
    """One request's options."""

    min_detection_score: float  # above 0, to 1
    max_faces: int  # of each image
    detection: DetectionMode = "auto"
    min_precision: float | None = None  # above 0, to 1; None never abstains
    class_prior: ClassPrior | None = None  # None for the server's


class Batcher:
    """Reads images of many requests at once, in threads.

    Decoding and the networks release Python's lock, so threads use all cores, hold the networks in memory once, and
    batch faces across requests.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._recognizer: Recognizer | None = None
        self._finders = ThreadPoolExecutor(settings.workers, "ddamfn-find")
        # Classifying a face takes about half as long as finding it.
        classifiers = max(1, settings.workers // 2)
        self._classifiers = ThreadPoolExecutor(classifiers, "ddamfn-classify")
        self._free = asyncio.Semaphore(classifiers)
        self._batches: set[asyncio.Task[None]] = set()
        self._inside = 0
        self._finding = 0
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def check_ready(self) -> None:
        """Raise Problem (503) until the networks are loaded."""
        if self._recognizer is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server is starting: ask again in a second", RETRY)

    def load(self) -> None:
        """Load the networks, which takes about a second; requests are refused with 503 until then."""
        # One thread a run: many runs at a time fill the cores better than one run that is spread over them.
        self._recognizer = Recognizer(
            self._settings.weights,
            num_threads=1,
            class_prior=self._settings.class_prior,
            providers=self._settings.providers,
        )
        self._metrics.ready.set(1)

    def close(self) -> None:
        """Stop the threads after their current work."""
        self._finders.shutdown(cancel_futures=True)
        self._classifiers.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def admit(self, images: int) -> Iterator[None]:
        """Reserve queue places for so many images, all or none, within the block; else raise Problem (503, 429)."""
        self.check_ready()
        if self._inside + images > self._settings.queue:
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too many images are waiting: send it again later", RETRY)
        self._inside += images
        self._metrics.waiting.set(self._inside)
        try:
            yield
        finally:
            self._inside -= images
            self._metrics.waiting.set(self._inside)

    async def read(self, content: bytes, options: Options) -> ImageResult:
        """Read one image admitted by `admit`, as `Recognizer.predict` does, and drop its pixels."""
        assert self._recognizer is not None
        find = partial(
            self._recognizer.find_faces,
            content,
            min_detection_score=options.min_detection_score,
            max_faces=options.max_faces,
            detection=options.detection,
            min_precision=options.min_precision,
            class_prior=options.class_prior,
            max_pixels=self._settings.max_pixels,
        )
        self._finding += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._finders, find)
        finally:
            self._finding -= 1
            # Whoever waits for company may have nobody left to wait for.
            self._arrived.set()
        result = await self._classify(found) if found.crops else found.result
        self._metrics.images.inc()
        self._metrics.faces.inc(len(result.faces))
        return result

    async def _classify(self, found: FoundFaces) -> ImageResult:
        answer: asyncio.Future[ImageResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((found, answer))
        self._arrived.set()
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await answer

    async def _drain(self) -> None:
        """Pass waiting images to the classifiers, batch by batch, until none is left."""
        while self._waiting:
            await self._wait_for_company()
            await self._free.acquire()
            # Formed only now: while all classifiers were busy, more may have come.
            batch = asyncio.create_task(self._answer(self._next_batch()))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Classify a batch, and hand each image's request its result."""
        images = [found for found, _ in batch]
        self._metrics.batch_faces.observe(sum(len(found.crops) for found in images))
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._classifiers, self._classified, images)
        finally:
            self._free.release()
        for (_, answer), result in zip(batch, results, strict=True):
            # Not if its client went away meanwhile.
            if answer.done():
                continue
            if isinstance(result, ImageResult):
                answer.set_result(result)
            else:
                answer.set_exception(result)

    async def _wait_for_company(self) -> None:
        """Wait until a batch is full, no other image is in detection, or the wait times out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.batch_wait_s):
                while self._finding and sum(len(found.crops) for found, _ in self._waiting) < self._settings.batch_size:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _next_batch(self) -> Sequence[_Waiting]:
        """Take images until a batch is full; one with many faces may be a batch by itself."""
        faces = taken = 0
        while taken < len(self._waiting) and faces < self._settings.batch_size:
            faces += len(self._waiting[taken][0].crops)
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    def _classified(self, batch: Sequence[FoundFaces]) -> Sequence[ImageResult | Exception]:
        """Classify a batch; if that fails, classify each image alone, so that one cannot spoil the others."""
        assert self._recognizer is not None
        try:
            return self._recognizer.classify(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [result for found in batch for result in self._classified([found])]
