"""A study's chart: each row's accuracies with their intervals, or each fold's. Needs the extra "plot"."""

from collections.abc import Sequence
from pathlib import Path

from ddamfn.evaluate.figures import BLUE, GREY, ORANGE, new_figure, set_title, write_figure
from ddamfn.study.crossval import FoldSummary
from ddamfn.study.jobs import Study
from ddamfn.study.summary import RowSummary


def draw_rows(study: Study, summaries: Sequence[RowSummary], path: Path) -> None:
    """Draw a line a row: every seed's accuracy, the mean, and its interval over the scored pictures.

    Raises:
        MissingExtra: if matplotlib is not installed.
        DataError: if the file cannot be written.
    """
    figure, axes = new_figure(7.6, 1.4 + 0.45 * max(len(summaries), 1))
    for place, summary in enumerate(summaries):
        low, high = (100 * end for end in summary.pictures_interval)
        colour = ORANGE if summary.row.name == study.reference else BLUE
        axes.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.5)
        accuracies = [100 * result.accuracy for result in summary.results]
        axes.scatter(accuracies, [place] * len(accuracies), color=colour, s=14, zorder=3)
        axes.scatter([100 * summary.mean], [place], color=colour, s=60, marker="|", zorder=4)
    axes.set_yticks(range(len(summaries)), [summary.row.title for summary in summaries])
    axes.invert_yaxis()
    # In two lines and from the right: long titles of rows leave little room beside them, and much below.
    axes.set_xlabel("accuracy, %\na dot a seed, the bar is 95 % over the pictures", loc="right")
    set_title(axes, study.title)
    write_figure(figure, path)


def draw_folds(study: Study, folds: FoldSummary, path: Path) -> None:
    """Draw every fold's accuracy, their mean and its corrected interval.

    Raises:
        MissingExtra: if matplotlib is not installed.
        DataError: if the file cannot be written.
    """
    figure, axes = new_figure(7.6, 3.4)
    numbers = [(result.fold or 0) + 1 for result in folds.results]
    axes.scatter(numbers, [100 * accuracy for accuracy in folds.accuracies], color=BLUE, zorder=3)
    if folds.interval is not None:
        axes.axhline(100 * folds.interval.mean, color=GREY, linewidth=1)
        axes.axhspan(100 * folds.interval.low, 100 * folds.interval.high, color=GREY, alpha=0.15)
    axes.set_xticks(sorted(set(numbers)))
    axes.set_xlabel("fold: a dot a run, the line is their mean, the band its corrected 95 % interval")
    axes.set_ylabel("accuracy, %")
    set_title(axes, study.title)
    write_figure(figure, path)
