"""How far a training run has got, on standard error: a bar an epoch on a terminal, and one line an epoch everywhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_DRAWINGS = 60.0


class EpochBars:
    """What `ddamfn.train.fit` reports to.

    Args:
        quiet: no bar, also on a terminal.
        draw: called after an epoch, at most once a minute, to draw the curves so far.
    """

    def __init__(self, *, quiet: bool, draw: Callable[[], None]) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._draw, self._drawn = draw, time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        """Nothing is shown before the first epoch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._close()

    def epoch_started(self, epoch: int, epochs: int, pictures: int, done: int, side_px: int) -> None:
        """Open an epoch's bar."""
        self._close()
        if self._live:
            bar = _make_bar()
            self._bar = bar, bar.add_task(f"epoch {epoch}/{epochs}, {side_px} px", total=pictures, completed=done)
            bar.start()

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Move the bar; loss and accuracy stay as they are where they are not told."""
        if self._bar is not None:
            bar, task = self._bar
            bar.advance(task, pictures)
            if loss is not None:
                bar.update(task, loss=f"loss {loss:.3f}")
            if accuracy is not None:
                bar.update(task, accuracy=f"accuracy {accuracy:.3f}")

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Print the epoch's line."""
        self._close()
        print(
            f"epoch {row['epoch']:3d}  {row['side_px']} px  lr {row['lr']:.2e}  loss {row['train']['loss']:.3f}  "
            f"{_scores(row)}{row['pictures_per_second']:.0f}/s",
            file=sys.stderr,
            flush=True,
        )
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
            self._draw()
            self._drawn = time.monotonic()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


def _scores(row: dict[str, Any]) -> str:
    """What there is of accuracies and heads; a pretext task has no validation, and most have no accuracy."""
    text = f"train {row['train']['accuracy']:.4f}  " if "accuracy" in row["train"] else ""
    if "valid" in row:
        heads = " ".join(f"{mean:.2f}" for mean in row["head_means"]) or "none"
        heads += f" (maximum {row['joined_mean']:.2f})" if row["head_means"] else ""
        text += f"valid {row['valid']['accuracy']:.4f}  heads {heads}  "
    return text


def _make_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Pictures a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "", style="progress.data.speed")

    class Running(ProgressColumn):
        """Loss and accuracy of the epoch so far."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.fields.get('loss', '')}  {task.fields.get('accuracy', '')}")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        Running(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
