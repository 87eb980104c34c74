"""How far a study has got, on standard error: a line a job, and a line an epoch unless it is quiet."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddamfn.study import Result, Standing


class StudyLines:
    """What `ddamfn.study.run_study` reports to.

    Args:
        quiet: no lines of epochs.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def job_started(self, standing: "Standing") -> None:
        """Say which job begins."""
        _say(f"{_place(standing)} {standing.job.id}, {_left(standing)}")

    def epoch_done(self, standing: "Standing", row: Mapping[str, Any]) -> None:
        """Say how an epoch ended."""
        if not self._quiet:
            _say(
                f"{_place(standing)} epoch {standing.epoch}/{standing.epochs}: loss {row['train']['loss']:.3f}, "
                f"validation {row['valid']['accuracy']:.4f}, {row['pictures_per_second']:.0f}/s, {_left(standing)}"
            )

    def job_done(self, standing: "Standing", result: "Result") -> None:
        """Say what a job's network scored."""
        _say(f"{_place(standing)} done: {result.correct:,} of {result.n:,} = {result.accuracy:.4f}, {_left(standing)}")

    def job_failed(self, standing: "Standing", reason: str) -> None:
        """Say why a job ended early."""
        _say(f"{standing.job.id} failed: {' '.join(reason.split())}")


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _place(standing: "Standing") -> str:
    return f"[{standing.done}/{standing.total} jobs done]"


def _left(standing: "Standing") -> str:
    return f"about {duration(standing.remaining_s)} left"


def _say(text: str) -> None:
    print(f"ddamfn: {text}", file=sys.stderr, flush=True)
