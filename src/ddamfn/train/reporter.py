"""Who is told how a run goes on."""

from typing import Any, Protocol


class Reporter(Protocol):
    """Who is told how a run goes on; the command line draws a progress bar from it."""

    def epoch_started(self, epoch: int, epochs: int, pictures: int, done: int, side_px: int) -> None:
        """Begin an epoch, counted from 1, of so many pictures, some of which are done when a run resumes."""

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Count pictures; loss and accuracy are the epoch's so far.

        They are None where reading them would wait for a GPU; the accuracy also where there is no right answer.
        """

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Take the row that goes into metrics.jsonl; of a pretext task it has no validation scores."""
