"""Progress of the verbs: bars on a terminal, lines elsewhere, all on standard error."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ddamfn.study.runner import StudyProgress

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_DRAWINGS = 60.0


class _LiveBar:
    """A rich progress bar with rate and time, shown while open, and text fields to its right in the given order."""

    def __init__(self, title: str, total: int | None, *, done: int = 0, fields: Mapping[str, Any]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rate, *texts = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("rate", *fields))
        left = [TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn()]
        columns = [*left, rate, TimeRemainingColumn(), *texts]
        self._progress: Progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: TaskID = self._progress.add_task("", total=total, completed=done, rate="", **fields)
        self._items, self._start = 0, time.monotonic()
        self._progress.start()

    def advance(self, count: int, **fields: Any) -> None:
        """Advance the bar and show new texts."""
        self._items += count
        # Over the whole time: results come in batches, and rich's own figure is that of the last burst.
        rate = self._items / max(time.monotonic() - self._start, 1e-9)
        self._progress.update(self._task, advance=count, rate=f"{rate:.{0 if rate >= 100 else 1}f}/s", **fields)

    def set_total(self, total: int) -> None:
        """Say how many there will be."""
        self._progress.update(self._task, total=total)

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


class _Closing:
    """A context manager that closes itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        raise NotImplementedError


class ItemProgress(_Closing):
    """Counts items in a bar or occasional lines, and prints messages (also if quiet) without breaking the bar.

    The total may be said later, or never.
    """

    def __init__(self, total: int | None, *, quiet: bool, noun: str = "images") -> None:
        self._noun, self._quiet = noun, quiet
        self._total = total
        self._done = 0
        self._start = self._last_line = time.monotonic()
        is_live = not quiet and sys.stderr.isatty()
        self._bar = _LiveBar("", total, fields={}) if is_live else None

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def set_total(self, total: int) -> None:
        """Say how many there will be, from any thread."""
        self._total = total
        if self._bar is not None:
            self._bar.set_total(total)

    def advance(self, count: int = 1) -> None:
        """Count items."""
        self._done += count
        if self._bar is not None:
            self._bar.advance(count)
        elif not self._quiet and time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.message(f"{self._done:,} {self._noun}, {self.rate:.1f}/s{self._left}")

    @property
    def rate(self) -> float:
        """Items per second so far."""
        return self._done / max(time.monotonic() - self._start, 1e-9)

    @property
    def _left(self) -> str:
        if self._total is None or not self._done:
            return ""
        return f", about {duration(max(self._total - self._done, 0) / self.rate)} left of {self._total:,}"

    def message(self, text: str) -> None:
        """Print one line on standard error, above the bar."""
        if self._bar is None:
            _say(text)
        else:
            self._bar.message(f"ddamfn: {text}")


class Bar(_Closing):
    """A progress callback `(done, total)` that opens an `ItemProgress` at its first call.

    With `resumes`, what is done at the first call does not count for rate and remaining time.
    """

    def __init__(self, *, quiet: bool, resumes: bool = False) -> None:
        self._quiet, self._resumes = quiet, resumes
        self._items: ItemProgress | None = None
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` images are done."""
        if self._items is None:
            self._done = done if self._resumes else 0
            self._items = ItemProgress(total - self._done, quiet=self._quiet)
            if self._done and not self._quiet:
                self._items.message(f"going on after {done:,} of {total:,} images")
        for _ in range(done - self._done):
            self._items.advance()
        self._done = done

    def message(self, text: str) -> None:
        """Print one line on standard error, above the bar; nothing if quiet."""
        if self._quiet:
            return
        if self._items is None:
            _say(text)
        else:
            self._items.message(text)

    def close(self) -> None:
        """Remove the bar."""
        if self._items is not None:
            self._items.close()


class EpochBars(_Closing):
    """What `ddamfn.train.fit` reports to; `draw` is called after an epoch, at most once a minute."""

    def __init__(self, *, quiet: bool, draw: Callable[[], None]) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._draw, self._drawn = draw, time.monotonic()
        self._bar: _LiveBar | None = None

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Open an epoch's bar."""
        self.close()
        if self._live:
            title = f"epoch {epoch}/{epochs}, {side_px} px"
            self._bar = _LiveBar(title, images, done=done, fields={"loss": "", "accuracy": ""})

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Advance the bar; without new loss and accuracy, the old ones stay."""
        if self._bar is not None:
            fields = {} if loss is None else {"loss": f"loss {loss:.3f}"}
            fields |= {} if accuracy is None else {"accuracy": f" accuracy {accuracy:.3f}"}
            self._bar.advance(images, **fields)

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Print the epoch's line."""
        self.close()
        print(
            f"epoch {row['epoch']:3d}  {row['side_px']} px  lr {row['lr']:.2e}  loss {row['train']['loss']:.3f}  "
            f"{_scores(row)}{row['images_per_second']:.0f}/s",
            file=sys.stderr,
            flush=True,
        )
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
            self._draw()
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _scores(row: dict[str, Any]) -> str:
    """Format the available accuracies and heads; a pretext task has no validation, and most have no accuracy."""
    text = f"train {row['train']['accuracy']:.4f}  " if "accuracy" in row["train"] else ""
    if "valid" in row:
        heads = " ".join(f"{mean:.2f}" for mean in row["head_means"]) or "none"
        heads += f" (maximum {row['max_attention_mean']:.2f})" if row["head_means"] else ""
        text += f"valid {row['valid']['accuracy']:.4f}  heads {heads}  "
    return text


def print_study_progress(progress: "StudyProgress", *, quiet: bool) -> None:
    """Print a line of a study's progress; if `quiet`, none for epochs."""
    row, result = progress.row, progress.result
    left = duration(progress.remaining_s)
    text = f"[{progress.done}/{progress.total} jobs done, about {left} left] {progress.job.id}"
    if progress.error is not None:
        text += f" failed: {' '.join(progress.error.split())}"
    elif result is not None:
        text += f" done: {result.correct:,} of {result.n:,} = {result.accuracy:.4f}"
    elif row is not None:
        if quiet:
            return
        text += (
            f" epoch {row['epoch']}/{progress.job.run.epochs}: loss {row['train']['loss']:.3f}, validation "
            f"{row['valid']['accuracy']:.4f}, {row['images_per_second']:.0f}/s"
        )
    _say(text)


def duration(seconds: float) -> str:
    """Format hours and minutes, or minutes and seconds below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _say(text: str) -> None:
    print(f"ddamfn: {text}", file=sys.stderr, flush=True)
