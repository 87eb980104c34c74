"""A video or a camera, read frame by frame."""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Self

from ddamfn.errors import UnreadableVideo, UsageError
from ddamfn.faces import FIRST_SIDE_PX, DetectionMode
from ddamfn.faces.search import check_detection
from ddamfn.recognizer import Recognizer
from ddamfn.results import Face, ImageResult, Prediction
from ddamfn.threads import num_cores
from ddamfn.video.animation import AnimatedWebp, is_animated_webp
from ddamfn.video.cut import FrameSource, VideoInfo
from ddamfn.video.frames import FrameResult
from ddamfn.video.pipeline import Pipeline, PipelineOptions
from ddamfn.video.source import VideoSource
from ddamfn.video.tracking import Smoother, Tracker

DEFAULT_SMOOTHING_S = 0.5
"""Time constant of smoothing in seconds: an expression lasts from half a second to four (Ekman 2003, Emotions
Revealed), so a shorter flicker is noise."""

_GAP_S, _GAP_FRAMES = 1.0, 3


def read_video(
    source: str | os.PathLike[str] | int,
    recognizer: Recognizer | None = None,
    *,
    every: int = 1,
    start_s: float | None = None,
    end_s: float | None = None,
    track: bool = True,
    smooth_s: float = DEFAULT_SMOOTHING_S,
    keep_images: bool = False,
    keep_crops: bool = False,
    detection: DetectionMode = FIRST_SIDE_PX,
    detect_every: int = 1,
    batch_size: int = 8,
    workers: int | None = None,
) -> "VideoReading":
    """Open a video or a camera and read the faces of its frames, lazily, on all cores and in constant memory.

    Examples:
        >>> from ddamfn import read_video
        >>> for frame in read_video("clip.mp4"):  # doctest: +SKIP
        ...     print(frame.time_s, [(track, face.expression) for track, face in zip(frame.tracks, frame.faces)])

    Args:
        source: a path, or the number of a camera.
        recognizer: finds and classifies. The cores are shared out among frames, so its networks are loaded again with
            one thread each, unless they have one, or `session_options` of the caller's. The default weights when None.
        every: read the first of every so many frames; the others are decoded and skipped.
        start_s: leave out frames before this time, in seconds from the start of the file.
        end_s: stop before this time; for a camera, after so many seconds.
        track: give each face a number that it keeps from frame to frame.
        smooth_s: time constant of smoothing each track's probabilities, in seconds; 0 for none. Needs `track`.
        keep_images: keep each frame's pixels in its result, for `plot()`.
        keep_crops: keep each face's aligned crop in its result.
        detection: as for `Recognizer`, in place of its own: one look a frame by default, since a face that is missed in
            one is found in the next.
        detect_every: look at the whole of one in so many frames, and at the others around its faces, at a fifth of the
            cost for each, unless one is not found again; a face that appears is found at the next whole look.
        batch_size: faces of consecutive frames that are classified together.
        workers: threads that find and classify; None for one per core.

    Returns:
        An iterator of `FrameResult`. Iterating raises `UnreadableVideo` after the last frame that could be read, if
        the file is broken there.

    Raises:
        UnreadableVideo: no such file or camera, no video in it, or no decoder for it.
        UsageError: an argument is out of range, or the start lies past the end.
        MissingExtra: PyAV is not installed.
    """
    _check_at_least(1, every=every, detect_every=detect_every, batch_size=batch_size, workers=workers)
    _check_at_least(0, smooth_s=smooth_s, start_s=start_s, end_s=end_s)
    check_detection(detection)
    opened = _open(source, every=every, start_s=start_s, end_s=end_s)
    recognizer = _with_one_thread(recognizer, opened)
    how = PipelineOptions(workers or num_cores(), batch_size, keep_images, detection, detect_every)
    tracker = Tracker(longest_gap_s(opened.info, every)) if track else None
    smoother = Smoother(smooth_s) if track and smooth_s else None
    pipeline = Pipeline(opened, recognizer, how)
    return VideoReading(opened, pipeline, recognizer.threshold, tracker, smoother, keep_crops=keep_crops)


def _with_one_thread(recognizer: Recognizer | None, opened: FrameSource) -> Recognizer:
    """Return a recognizer that leaves the cores to frames; the video is closed if there is none."""
    try:
        return Recognizer(num_threads=1) if recognizer is None else recognizer.with_num_threads(1)
    except BaseException:
        opened.close()
        raise


def longest_gap_s(info: VideoInfo, every: int) -> float:
    """Return the seconds that a track outlives its face: one second, or three of the frames that are read."""
    return max(_GAP_S, _GAP_FRAMES * every / info.rate)


class VideoReading(Iterator[FrameResult]):
    """An iterator over the frames of a video; made by `read_video`.

    It ends its threads when it is exhausted, closed, or left as a context manager.

    Attributes:
        info: the container's description of the video.
    """

    def __init__(
        self,
        source: FrameSource,
        pipeline: Pipeline,
        threshold: float,
        tracker: Tracker | None,
        smoother: Smoother | None,
        *,
        keep_crops: bool,
    ) -> None:
        self.info: VideoInfo = source.info
        self._source, self._pipeline = source, pipeline
        self._threshold, self._keep_crops = threshold, keep_crops
        self._tracker, self._smoother = tracker, smoother
        self._frames = self._run()

    def __next__(self) -> FrameResult:
        """Return the next frame's result."""
        return next(self._frames)

    def close(self) -> None:
        """End all threads and close the file."""
        self._frames.close()
        self._pipeline.close()

    def __enter__(self) -> Self:
        """Nothing is read before the first frame is asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _run(self) -> Generator[FrameResult]:
        try:
            for frame, result in self._pipeline.run():
                image = replace(result, source=self.info.source)
                if self._keep_crops:
                    pairs = zip(image, frame.found.crops, strict=True)
                    image = replace(image, faces=[replace(face, aligned=crop) for face, crop in pairs])
                yield self._finish(frame.index, frame.time_s, image)
        finally:
            self._pipeline.close()
        if self._source.damage is not None:
            raise UnreadableVideo(f"{self.info.source}: {self._source.damage}; what could be read is complete")

    def _finish(self, index: int, time_s: float, image: ImageResult) -> FrameResult:
        tracks: tuple[int | None, ...] = (None,) * len(image.faces)
        if self._tracker is not None:
            numbers = tracks = self._tracker.update(time_s, image.faces)
            if self._smoother is not None:
                image = replace(image, faces=self._smooth(self._smoother, time_s, numbers, image.faces))
        return FrameResult(image, index, time_s, tracks)

    def _smooth(self, smoother: Smoother, time_s: float, tracks: Sequence[int], faces: Sequence[Face]) -> list[Face]:
        smoothed = []
        for track, face in zip(tracks, faces, strict=True):
            probabilities = smoother.smooth(track, time_s, face.probabilities)
            smoothed.append(replace(face, prediction=Prediction.of(probabilities, self._threshold)))
        return smoothed


def _open(
    source: str | os.PathLike[str] | int, *, every: int, start_s: float | None, end_s: float | None
) -> FrameSource:
    if not isinstance(source, int) and is_animated_webp(source):
        return AnimatedWebp(source, every=every, start_s=start_s, end_s=end_s)
    return VideoSource(source, every=every, start_s=start_s, end_s=end_s)


def _check_at_least(least: int, **numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and not number >= least:  # NaN is refused too
            raise UsageError(f"{name} must be at least {least}, not {number}")
