"""How far a run has got, on standard error only: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 30.0


class Reporter:
    """Shows progress and prints messages without breaking the bar.

    Args:
        total: how many pictures there will be; None if that is not known.
        quiet: show no progress; messages are printed all the same.
        noun: what is counted.
    """

    def __init__(self, total: int | None, *, quiet: bool, noun: str = "pictures") -> None:
        self._total, self._noun = total, noun
        self._quiet = quiet
        self._done = 0
        self._start = self._last_line = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        """Show the bar, if standard error is a terminal."""
        if not self._quiet and sys.stderr.isatty():
            bar = _make_bar()
            self._bar = bar, bar.add_task("", total=self._total)
            bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar[0].stop()

    def advance(self) -> None:
        """Count one picture."""
        self._done += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar[0].advance(self._bar[1])
        elif not self._quiet and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.message(f"{self._done:,} {self._noun}, {self.rate:.1f}/s")

    @property
    def rate(self) -> float:
        """Pictures a second so far."""
        return self._done / max(time.monotonic() - self._start, 1e-9)

    def message(self, text: str) -> None:
        """Print one line on standard error, above the bar."""
        if self._bar is None:
            print(f"ddamfn: {text}", file=sys.stderr, flush=True)
        else:
            self._bar[0].console.print(f"ddamfn: {text}", markup=False, highlight=False, soft_wrap=True)


class Bar:
    """A progress callback `(done, total)` that shows a `Reporter` from its first call on.

    Args:
        quiet: show no progress.
        resumes: what is done at the first call was done by an earlier run, and does not count for rate and remaining
            time.
    """

    def __init__(self, *, quiet: bool, resumes: bool = False) -> None:
        self._quiet, self._resumes = quiet, resumes
        self._reporter: Reporter | None = None
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pictures are done."""
        if self._reporter is None:
            self._done = done if self._resumes else 0
            self._reporter = Reporter(total - self._done, quiet=self._quiet).__enter__()
            if self._done and not self._quiet:
                self._reporter.message(f"going on after {done:,} of {total:,} pictures")
        for _ in range(done - self._done):
            self._reporter.advance()
        self._done = done

    def __enter__(self) -> Self:
        """Nothing is shown before the first call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._reporter is not None:
            self._reporter.__exit__(kind, error, trace)


def _make_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Pictures a second."""

        def render(self, task: Task) -> Text:
            # Over the whole run: results come in batches, and rich's own figure is that of the last burst.
            shown = f"{task.completed / task.elapsed:.1f}/s" if task.elapsed and task.completed else ""
            return Text(shown, style="progress.data.speed")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
