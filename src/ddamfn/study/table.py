"""The cells of a study's table: one line a row, the columns that its rows have something for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ddamfn.evaluate.significance import Interval
from ddamfn.study.jobs import Study
from ddamfn.study.results import LEDGER, Ledger, Result
from ddamfn.study.summary import RowSummary

Column = tuple[str, Callable[[RowSummary], str]]


def cells(study: Study, summaries: Sequence[RowSummary], folder: Path) -> tuple[list[str], list[list[str]]]:
    """Headings and lines of a table.

    Args:
        study: the table.
        summaries: of the rows that have a finished job.
        folder: of the study; that of `study.beside` lies in the same folder.
    """
    columns = [*_OWN, *_beside(study, folder)]
    columns += [column for column in _MORE if any(column[1](summary) for summary in summaries)]
    return [head for head, _ in columns], [[make(summary) for _, make in columns] for summary in summaries]


def percent(share: float) -> str:
    """A share of 1 as per cent, with two digits."""
    return f"{100 * share:.2f} %"


def percents(interval: Interval) -> str:
    """An interval of an accuracy; of few seeds or folds it may reach beyond what an accuracy can be, and is cut."""
    return f"{percent(max(interval.low, 0.0))} to {percent(min(interval.high, 1.0))}"


def _right(summary: RowSummary) -> str:
    correct = ", ".join(f"{result.correct:,}" for result in summary.results)
    return f"{correct} of {summary.results[0].n:,}"


def _accuracy(summary: RowSummary) -> str:
    return _mean(summary.results, summary.mean, summary.deviation)


def _mean(results: Sequence[Result], mean: float, deviation: float | None) -> str:
    spread = "one seed" if deviation is None else f"± {100 * deviation:.2f}, {len(results)} seeds"
    return f"{percent(mean)} ({spread})"


def _seeds(summary: RowSummary) -> str:
    return "" if summary.seeds_interval is None else percents(summary.seeds_interval)


def _pictures(summary: RowSummary) -> str:
    return " to ".join(map(percent, summary.pictures_interval))


def _difference(summary: RowSummary) -> str:
    return "reference" if summary.difference is None else f"{100 * summary.difference.interval.mean:+.2f}"


def _interval(summary: RowSummary) -> str:
    if summary.difference is None:
        return ""
    interval = summary.difference.interval
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"


def _p_values(summary: RowSummary) -> str:
    return "" if summary.difference is None else ", ".join(f"{p:.2g}" for p in summary.difference.p_values)


def _parameters(summary: RowSummary) -> str:
    return f"{summary.results[0].parameters:,}" if summary.results[0].parameters else ""


def _heads(summary: RowSummary) -> str:
    means = [result.head_means for result in summary.results if result.head_means]
    return ", ".join(f"{mean:.2f}" for mean in np.mean(means, axis=0)) if means else ""


def _apart(summary: RowSummary) -> str:
    found = [result.head_difference for result in summary.results if len(result.head_means) > 1]
    return f"{np.mean(found):.3f}" if found else ""


def _joined(summary: RowSummary) -> str:
    found = [result.joined_mean for result in summary.results if result.head_means]
    return f"{np.mean(found):.2f}" if found else ""


def _beside(study: Study, folder: Path) -> list[Column]:
    """The same rows under the other study's conditions, as far as they are done."""
    other = study.beside
    if other is None:
        return []
    done = Ledger(folder.parent / other.name / LEDGER).read()

    def accuracy(summary: RowSummary) -> str:
        found = [done[job.id] for job in other.jobs if job.row == summary.row.name and job.id in done]
        accuracies = [result.accuracy for result in found]
        deviation = float(np.std(accuracies, ddof=1)) if len(found) > 1 else None
        return _mean(found, float(np.mean(accuracies)), deviation) if found else "not run"

    return [(f"ours, {other.title.partition(', ')[2]}", accuracy)]


_OWN: tuple[Column, ...] = (
    ("row", lambda summary: summary.row.title),
    ("n/N", _right),
    ("accuracy, mean ± deviation over seeds", _accuracy),
    ("95 % over seeds", _seeds),
    ("95 % over pictures", _pictures),
    ("parameters", _parameters),
    ("difference, points", _difference),
    ("its 95 %", _interval),
    ("McNemar p, seed by seed", _p_values),
)
_MORE: tuple[Column, ...] = (
    ("heads' means", _heads),
    ("heads' difference", _apart),
    ("joined mean", _joined),
    ("published on RAF-DB", lambda summary: "" if summary.row.published is None else f"{summary.row.published:g}"),
    ("slides, RAF-DB", lambda summary: "" if summary.row.slides is None else f"{summary.row.slides:g}"),
)
