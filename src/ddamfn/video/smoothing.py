"""Probabilities of one face, calmed over time."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# A track that has not been seen for this many time constants keeps less than a thousandth of its past.
_FORGOTTEN = 7.0


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
        """Take what one frame says of a track.

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
        self._forget(time_s)
        return dict(zip(probabilities, smoothed.tolist(), strict=True))

    def _forget(self, time_s: float) -> None:
        oldest_s = time_s - _FORGOTTEN * self._constant_s
        for track in [track for track, (seen_s, _) in self._past.items() if seen_s < oldest_s]:
            del self._past[track]
