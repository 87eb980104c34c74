"""Concurrent decoding, detection and classification on all cores, in order and in constant memory."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ddamfn.faces import DetectionMode
from ddamfn.finder import FoundFaces
from ddamfn.recognizer import Recognizer
from ddamfn.results import ImageResult
from ddamfn.video.cut import FrameSource, RawFrame
from ddamfn.video.pixels import upright_rgb

# Frames whose pixels wait for their batch or their caller take this much at most.
_MOST_WAITING_BYTES = 192 * 2**20
_GROUPS_AT_WORK = 2
_STOPPED_AFTER_S = 10.0
_WORKERS = "ddamfn-video"


@dataclass(frozen=True, slots=True)
class DetectedFrame:
    """A frame with its detected faces, to be classified."""

    index: int
    time_s: float
    found: FoundFaces


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """How a video is read; see `ddamfn.video.read_video`."""

    workers: int
    batch_size: int
    keep_images: bool
    detection: DetectionMode
    detect_every: int


_Entry = Future[DetectedFrame] | BaseException | None


class Pipeline:
    """Reads a source's frames: one thread decodes, `workers` threads detect and classify.

    The recognizer should use one thread: then no core is idle, and none waits within a network, since PyAV and ONNX
    Runtime release Python's lock. The number of frames in flight is bounded, so a slow caller holds the decoder up.
    """

    def __init__(
        self,
        source: FrameSource,
        recognizer: Recognizer,
        options: PipelineOptions,
    ) -> None:
        self._source, self._recognizer, self._options = source, recognizer, options
        # What a camera shows is read at once; a batch would only make it late.
        self._batch_size = 1 if source.info.live else options.batch_size
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix=_WORKERS)
        self._ready: queue.Queue[_Entry] = queue.Queue(maxsize=options.workers + 2)
        self._stop = threading.Event()
        self._decoder = threading.Thread(target=self._decode, name="ddamfn-decode", daemon=True)

    def run(self) -> Iterator[tuple[DetectedFrame, ImageResult]]:
        """Yield each frame with its result in order; a thread's error is raised after the frames before it."""
        self._decoder.start()
        groups: deque[tuple[Sequence[DetectedFrame], Future[list[ImageResult]]]] = deque()
        failure: list[BaseException] = []
        for group in self._groups(failure):
            groups.append((group, self._pool.submit(self._recognizer.classify, [frame.found for frame in group])))
            while len(groups) >= (1 if self._source.info.live else _GROUPS_AT_WORK):
                yield from _results(*groups.popleft())
        while groups:
            yield from _results(*groups.popleft())
        if failure:
            raise failure[0]

    def close(self) -> None:
        """End all threads and close the source; frames in flight are dropped."""
        self._stop.set()
        # What a caller has forgotten is collected as garbage, perhaps in one of these threads: none waits for itself.
        here = threading.current_thread()
        if self._decoder.ident is not None and here is not self._decoder:
            self._decoder.join(_STOPPED_AFTER_S)
        self._pool.shutdown(wait=not here.name.startswith(_WORKERS), cancel_futures=True)
        # A decoder that hangs, in a camera that gives nothing more, still uses its file: the process's end closes it.
        if not self._decoder.is_alive():
            self._source.close()

    def _groups(self, failure: list[BaseException]) -> Iterator[Sequence[DetectedFrame]]:
        """Collect frames in order until their faces fill a batch; store an early end's reason in `failure`."""
        group: list[DetectedFrame] = []
        while True:
            entry = self._ready.get()
            if not isinstance(entry, Future):
                failure += [] if entry is None else [entry]
                break
            try:
                group.append(entry.result())
            except Exception as error:
                failure.append(error)
                break
            faces = sum(len(frame.found.crops) for frame in group)
            kept = sum(frame.found.kept_bytes for frame in group) * (_GROUPS_AT_WORK + 1)
            full = faces >= self._batch_size or len(group) >= self._batch_size or kept > _MOST_WAITING_BYTES
            if full or not faces:
                yield group
                group = []
        if group:
            yield group

    def _decode(self) -> None:
        end: BaseException | None = None
        try:
            whole: Future[DetectedFrame] | None = None
            for number, raw in enumerate(self._source.frames()):
                if self._stop.is_set():
                    return
                before = None if number % self._options.detect_every == 0 else whole
                entry = self._pool.submit(self._detect, raw, before)
                if before is None:
                    whole = entry
                if not self._put(entry):
                    return
        except BaseException as error:
            end = error
        self._put(end)

    def _detect(self, raw: RawFrame, whole: Future[DetectedFrame] | None) -> DetectedFrame:
        """Find a frame's faces, around those of the frame that was last looked at as a whole if there is one."""
        pixels = upright_rgb(raw.frame, self._source.aspect)
        # That frame was handed in before this one, so a thread has it already, and none waits for itself.
        near = () if whole is None or whole.cancelled() else whole.result().found.detections
        found = self._recognizer.find_faces(
            pixels, keep_image=self._options.keep_images, detection=self._options.detection, near=near
        )
        return DetectedFrame(raw.index, raw.time_s, found)

    def _put(self, entry: _Entry) -> bool:
        """Hand an entry on, waiting for room; a camera drops its oldest frame instead, since it is late already."""
        live = self._source.info.live
        while not self._stop.is_set():
            try:
                # Looked at again and again, since whoever stops the pipeline takes nothing more.
                self._ready.put(entry, block=not live, timeout=0.1)
            except queue.Full:
                if live:
                    with contextlib.suppress(queue.Empty):
                        oldest = self._ready.get_nowait()
                        if isinstance(oldest, Future):
                            oldest.cancel()
            else:
                return True
        return False


def _results(
    group: Sequence[DetectedFrame], results: Future[list[ImageResult]]
) -> Iterator[tuple[DetectedFrame, ImageResult]]:
    yield from zip(group, results.result(), strict=True)
