"""Probabilities over time per track, collected in constant memory and drawn as one image."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing import Strip, clock, draw_timeline
from ddamfn.results import Face
from ddamfn.video.frames import FrameResult

# More spans of time than the image has pixels; a power of two, since neighbors are merged in pairs.
_SPANS = 2048
_FIRST_SPAN_S = 0.04
# In a crowd most tracks are short. The longest are drawn; of the others some are kept, since they may grow.
_MOST_DRAWN = 8
_MOST_KEPT = 64


@dataclass(slots=True)
class _Series:
    """One track's frames, summed in spans of time."""

    sums: NDArray[np.float32]  # (spans, K)
    counts: NDArray[np.int32]  # (spans,)
    first_s: float
    last_s: float = 0.0
    frames: int = 0
    crop: NDArray[np.uint8] | None = None
    score: float = -1.0

    def add(self, span: int, time_s: float, face: Face) -> None:
        self.sums[span] += np.fromiter(face.probabilities.values(), np.float32)
        self.counts[span] += 1
        self.last_s = time_s
        self.frames += 1
        if face.aligned is not None and face.score > self.score:
            self.crop, self.score = face.aligned, face.score

    def merge(self) -> None:
        """Double the length of each span."""
        half = _SPANS // 2
        sums = self.sums.reshape(half, 2, -1).sum(axis=1)
        counts = self.counts.reshape(half, 2).sum(axis=1)
        self.sums, self.counts = np.zeros_like(self.sums), np.zeros_like(self.counts)
        self.sums[:half], self.counts[:half] = sums, counts


class Timeline:
    """Collects the frames of a video and draws each track's probabilities over time.

    Time is divided into at most 2,048 spans, which grow as the video goes on; a span shows the mean of its frames. So
    an hour needs no more memory than a minute.

    Args:
        classes: the weights' expressions.
        gap_s: a track that was not seen for longer shows a gap, in seconds. Where no frame came for longer, the last
            one stood, and so do its probabilities.
    """

    def __init__(self, classes: tuple[str, ...], gap_s: float = 1.0) -> None:
        self._classes, self._gap_s = classes, gap_s
        self._span_s = _FIRST_SPAN_S
        self._tracks: dict[int, _Series] = {}
        self._has_frames = np.zeros(_SPANS, np.bool_)
        self._count = 0
        self._newest = 0
        self._source = ""
        self._start_s: float | None = None
        self._end_s = 0.0

    def add(self, frame: FrameResult) -> None:
        """Take the next frame, without keeping it.

        Raises:
            ValueError: its faces have no tracks.
        """
        if self._start_s is None:
            self._start_s, self._source = frame.time_s, frame.source
        self._end_s = max(self._end_s, frame.time_s)
        while (self._end_s - self._start_s) / self._span_s >= _SPANS:
            self._span_s *= 2
            for series in self._tracks.values():
                series.merge()
            merged = self._has_frames.reshape(-1, 2).any(axis=1)
            self._has_frames = np.concatenate([merged, np.zeros_like(merged)])
        span = max(0, int((frame.time_s - self._start_s) / self._span_s))
        self._has_frames[span] = True
        for track, face in zip(frame.tracks, frame.faces, strict=True):
            if track is None:
                raise ValueError("a timeline needs tracks: read with read_video(..., track=True)")
            self._series(track, frame.time_s).add(span, frame.time_s, face)

    def draw(self) -> Image.Image:
        """Draw the longest tracks, at most eight, in the order of their first appearance."""
        start_s = self._start_s or 0.0
        used = max(1, int((self._end_s - start_s) / self._span_s) + 1)
        longest = sorted(self._tracks, key=lambda number: -self._tracks[number].frames)[:_MOST_DRAWN]
        strips = [self._strip(number, self._tracks[number], used) for number in sorted(longest)]
        more = self._count - len(longest)
        note = f"and {more:,} more face{'s' if more > 1 else ''}, seen for a shorter time" if more else ""
        title = f"Expressions over time: {Path(self._source).name}" if self._source else "Expressions over time"
        return draw_timeline(strips, self._classes, start_s, start_s + used * self._span_s, title, note)

    def _series(self, track: int, time_s: float) -> _Series:
        if track not in self._tracks:
            # Numbers rise, so a track that was given up is not counted a second time when it comes back.
            if track > self._newest:
                self._count, self._newest = self._count + 1, track
            if len(self._tracks) >= _MOST_KEPT:
                del self._tracks[min(self._tracks, key=lambda number: self._tracks[number].frames)]
            shape = (_SPANS, len(self._classes))
            self._tracks[track] = _Series(np.zeros(shape, np.float32), np.zeros(_SPANS, np.int32), time_s)
        return self._tracks[track]

    def _strip(self, number: int, series: _Series, used: int) -> Strip:
        mean = series.sums.sum(axis=0) / series.frames
        best = int(mean.argmax())
        note = f"{clock(series.first_s)} to {clock(series.last_s)}, mostly {self._classes[best]} ({mean[best]:.0%})"
        return Strip(f"face {number}", note, self._filled(series, used), series.crop)

    def _filled(self, series: _Series, used: int) -> NDArray[np.float64]:
        """Return (used, K): each span's mean, interpolated across short gaps, NaN in long ones, held without frames."""
        seen = np.flatnonzero(series.counts[:used])
        means = series.sums[seen].astype(np.float64) / series.counts[seen, None]
        values = np.full((used, len(self._classes)), np.nan)
        spans = np.arange(seen[0], seen[-1] + 1)
        for column in range(len(self._classes)):
            values[spans, column] = np.interp(spans, seen, means[:, column])
        widest = max(1, int(self._gap_s / self._span_s))
        for before, after in itertools.pairwise(seen.tolist()):
            if after - before > widest:
                frames = np.flatnonzero(self._has_frames[before + 1 : after])
                stood_to = before + 1 + int(frames[0]) if len(frames) else after
                values[before + 1 : stood_to] = values[before]
                values[stood_to:after] = np.nan
        return values
