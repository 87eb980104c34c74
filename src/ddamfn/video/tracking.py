"""Tracks faces from frame to frame and smooths their probabilities over time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.results import Face

# Mean distance of the five points, in face sizes. 0.5 is where boxes of one size overlap by a third; the eyes of two
# people side by side are at least one size apart.
_NEAR = 0.5
# For each second in which a face was not seen, its place is this much less sure: a person who walks by crosses two or
# three of their faces' sizes a second. Never more than the farthest.
_LOOSENS_PER_S = 2.5
_FARTHEST = 1.5
# One face is not suddenly this many times as large.
_MOST_GROWTH = 1.8
# A face's speed is averaged over about so long, and trusted for no longer.
_SPEED_S = 0.2
_COASTS_S = 0.5

# A track that has not been seen for this many time constants keeps less than a thousandth of its past.
_FORGOTTEN = 7.0


@dataclass(slots=True)
class _Track:
    """One face's last sighting."""

    number: int
    points: NDArray[np.float64]  # (5, 2) pixels
    size_px: float  # side of a square of the box's area
    seen_s: float
    speed: NDArray[np.float64]  # (2,) pixels a second

    def expected(self, time_s: float) -> NDArray[np.float64]:
        return self.points + self.speed * min(max(time_s - self.seen_s, 0.0), _COASTS_S)

    def see(self, points: NDArray[np.float64], size_px: float, time_s: float) -> None:
        passed_s = time_s - self.seen_s
        if passed_s > 0:
            share = 1 - math.exp(-passed_s / _SPEED_S)
            measured = (points.mean(axis=0) - self.points.mean(axis=0)) / passed_s
            self.speed = self.speed + share * (measured - self.speed)
        self.points, self.size_px, self.seen_s = points, size_px, time_s

    def stand(self, until_s: float) -> None:
        self.seen_s, self.speed = until_s, np.zeros(2)


class Tracker:
    """Gives each face a number that it keeps while it is seen, and through gaps.

    A face goes to the track whose expected landmarks are nearest, measured in face sizes; the nearest pairs are taken
    first. Landmarks tell turned and overlapping faces apart where boxes only overlap. Minimizing the sum of distances
    (the Hungarian method, which needs SciPy) differs only where two faces lie within half a face of each other, and
    both are guesses. A number marks a continuing place, not a person: after a cut, a new face at the old place
    keeps the number.

    A recording of a screen has no frames while nothing changes: between frames that are farther apart than `gap_s`
    the earlier one stood, and a face that is still at its place afterwards keeps its number.

    Args:
        gap_s: a face that was not seen for longer gets a new number when it comes back, at least 0 seconds.
    """

    def __init__(self, gap_s: float = 1.0) -> None:
        self._gap_s = gap_s
        self._tracks: list[_Track] = []
        self._given = 0
        self._last_s = 0.0
        self._shown: set[int] = set()

    def update(self, time_s: float, faces: Sequence[Face]) -> tuple[int, ...]:
        """Take the next frame's faces.

        Args:
            time_s: of the frame, in seconds, not before the last one's.
            faces: in any order.

        Returns:
            The track of each face, numbered from 1 in the order of appearance.
        """
        if time_s - self._last_s > self._gap_s:
            for track in self._tracks:
                if track.number in self._shown:
                    track.stand(time_s)
        self._last_s = time_s
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self._gap_s]
        seen = [(face.landmarks.to_numpy(), _size(face)) for face in faces]
        numbers = [0] * len(seen)
        taken: set[int] = set()
        for _, row, track in self._pairs(seen, time_s):
            if not numbers[row] and track.number not in taken:
                track.see(*seen[row], time_s)
                numbers[row] = track.number
                taken.add(track.number)
        for row, (points, size_px) in enumerate(seen):
            if not numbers[row]:
                self._given += 1
                numbers[row] = self._given
                self._tracks.append(_Track(self._given, points, size_px, time_s, np.zeros(2)))
        self._shown = set(numbers)
        return tuple(numbers)

    def _pairs(
        self, seen: Sequence[tuple[NDArray[np.float64], float]], time_s: float
    ) -> list[tuple[float, int, _Track]]:
        """Return candidate pairs as (distance, row of the face, track), the nearest first."""
        pairs = []
        for track in self._tracks:
            expected = track.expected(time_s)
            farthest = min(_NEAR + _LOOSENS_PER_S * max(0.0, time_s - track.seen_s), _FARTHEST)
            for row, (points, size_px) in enumerate(seen):
                if max(size_px, track.size_px) > _MOST_GROWTH * min(size_px, track.size_px):
                    continue
                distance = float(np.linalg.norm(points - expected, axis=1).mean())
                distance /= math.sqrt(size_px * track.size_px)
                if distance <= farthest:
                    pairs.append((distance, row, track))
        return sorted(pairs, key=lambda pair: (pair[0], pair[1], pair[2].number))


def _size(face: Face) -> float:
    return max(1.0, math.sqrt(face.bbox.width * face.bbox.height))


class Smoother:
    """Exponential smoothing of each track's probabilities, by time and not by frame.

    After a change, the share exp(-t / constant_s) of the past is left after t seconds, whether ten or a hundred frames
    were seen meanwhile; so neither the frame rate nor `every` changes the curve.

    Args:
        constant_s: the time constant in seconds, above 0.

    Raises:
        ValueError: `constant_s` is not above 0.
    """

    def __init__(self, constant_s: float) -> None:
        if not constant_s > 0:
            raise ValueError(f"the time constant must be above 0 s, not {constant_s}")
        self._constant_s = constant_s
        self._past: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def smooth(self, track: int, time_s: float, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Take one frame's probabilities of a track.

        Args:
            track: its number.
            time_s: of the frame in seconds.
            probabilities: of every expression; they sum to 1.

        Returns:
            The smoothed probabilities in the same order; they sum to 1. The first ones of a track are its own.
        """
        now = np.array(list(probabilities.values()))
        before_s, past = self._past.get(track, (time_s, now))
        left = math.exp(-max(0.0, time_s - before_s) / self._constant_s)
        smoothed = now + left * (past - now)
        self._past[track] = (time_s, smoothed)
        oldest_s = time_s - _FORGOTTEN * self._constant_s
        for number in [number for number, (seen_s, _) in self._past.items() if seen_s < oldest_s]:
            del self._past[number]
        return dict(zip(probabilities, smoothed.tolist(), strict=True))
