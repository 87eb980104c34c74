"""The report of a study: Markdown, CSV and chart."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddamfn.evaluate.plots import BLUE, GRAY, ORANGE, new_figure, set_title, write_figure
from ddamfn.evaluate.significance import Interval
from ddamfn.study.jobs import LEDGER, Ledger, Result, Study
from ddamfn.study.runner import Progress
from ddamfn.study.summary import RowSummary, summarize, verdict
from ddamfn.study.tables.crossval import SLIDES, FoldSummary, summarize_folds
from ddamfn.train import Run
from ddamfn.train.run_folder import replace_file


def draw_rows(study: Study, summaries: Sequence[RowSummary], path: Path) -> None:
    """Draw a line a row: every seed's accuracy, the mean, and its interval over the scored images.

    Raises:
        MissingExtra: if matplotlib is not installed.
        DataError: if the file cannot be written.
    """
    figure, axes = new_figure(7.6, 1.4 + 0.45 * max(len(summaries), 1))
    for place, summary in enumerate(summaries):
        low, high = (100 * end for end in summary.images_interval)
        color = ORANGE if summary.row.name == study.reference else BLUE
        axes.plot([low, high], [place, place], color=color, linewidth=2, alpha=0.5)
        accuracies = [100 * result.accuracy for result in summary.results]
        axes.scatter(accuracies, [place] * len(accuracies), color=color, s=14, zorder=3)
        axes.scatter([100 * summary.mean], [place], color=color, s=60, marker="|", zorder=4)
    axes.set_yticks(range(len(summaries)), [summary.row.title for summary in summaries])
    axes.invert_yaxis()
    # In two lines and from the right: long titles of rows leave little room beside them, and much below.
    axes.set_xlabel("accuracy, %\na dot a seed, the bar is 95 % over the images", loc="right")
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
        axes.axhline(100 * folds.interval.mean, color=GRAY, linewidth=1)
        axes.axhspan(100 * folds.interval.low, 100 * folds.interval.high, color=GRAY, alpha=0.15)
    axes.set_xticks(sorted(set(numbers)))
    axes.set_xlabel("fold: a dot a run, the line is their mean, the band its corrected 95 % interval")
    axes.set_ylabel("accuracy, %")
    set_title(axes, study.title)
    write_figure(figure, path)


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


def _images(summary: RowSummary) -> str:
    return " to ".join(map(percent, summary.images_interval))


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
    found = [result.max_attention_mean for result in summary.results if result.head_means]
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
    ("95 % over images", _images),
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


REPORT, TABLE, JOBS, CHART = "report.md", "table.csv", "jobs.csv", "chart.png"

_TEST = (
    "Each job's network is the epoch that was best on validation images; the images scored here were read once a "
    "job, after its training had ended, and chose nothing."
)
_VALID = (
    "Scored on validation, for choosing: the same images chose each run's epoch, so every row is somewhat too high, "
    "the baseline like the others. The test split was not opened."
)
_RANDOM = "All runs begin with random weights: "
_INITIAL = "Some runs begin with other weights than published ones or learn from teachers: "
_SOURCES = (
    "the published figures rest on weights of face recognition that can no longer "
    "be had, and many on an epoch chosen by test images. Published figures and the slides' are of RAF-DB and stand "
    "in columns of their own, not to be subtracted from ours."
)
_ATTENTION = (
    "Attention, on validation: the mean of each head's map; how much the heads differ (mean squared difference); the "
    "mean of their maximum, which weighs the features: near 1 the attention is switched off, whatever the heads are."
)


@dataclass(frozen=True, kw_only=True)
class ReportMetadata:
    """What readers must know beside the numbers.

    Attributes:
        command: that was run.
        data: the data set, in words.
        date: ISO.
        commit: of the source tree.
    """

    command: str
    data: str
    date: str
    commit: str


def write_report(
    study: Study, progress: Progress, folder: Path, destination: Path, circumstances: ReportMetadata
) -> str:
    """Write report.md, table.csv, jobs.csv and chart.png.

    Args:
        study: the table.
        progress: what is done of it.
        folder: where the jobs lie.
        destination: folder to write to; made if missing, files of the same names are replaced.
        circumstances: what belongs into the heading.

    Returns:
        The report's text.

    Raises:
        TrainingError: if a file cannot be written, or a job's answers are missing.
        MissingExtra: if matplotlib is not installed.
    """
    destination.mkdir(parents=True, exist_ok=True)
    if study.jobs[0].fold is None:
        summaries = summarize(study, progress.results, folder)
        head, rows = cells(study, summaries, folder)
        body = [] if study.reference is None else [verdict(study, summaries)]
        draw_rows(study, summaries, destination / CHART)
    else:
        folds = summarize_folds(progress.results)
        (head, *rows), body = _fold_cells(folds, study.jobs[0].fold.of), _folds_text(folds)
        draw_folds(study, folds, destination / CHART)
    text = (
        "\n\n".join(
            [
                *_heading(study, progress, circumstances),
                _markdown(head, rows),
                *body,
                *_closing(study, progress.results),
            ]
        )
        + "\n"
    )
    replace_file(destination / REPORT, text.encode())
    replace_file(destination / TABLE, _csv([head, *rows]))
    replace_file(destination / JOBS, _csv(_job_rows(progress.results)))
    return text


def _heading(study: Study, progress: Progress, circumstances: ReportMetadata) -> list[str]:
    run = study.jobs[0].run
    facts = [
        f"- {circumstances.date}, commit `{circumstances.commit}`, `{circumstances.command}`",
        f"- Data: {circumstances.data}",
        f"- {_recipes(study)}; rule {run.data.rule} to train on, {_scoring_rule(study)} to score on",
        *_limit(study),
        f"- {len(progress.results)} of {len(study.jobs)} jobs done",
    ]
    if progress.results:
        devices = sorted({result.device for result in progress.results})
        commits = sorted({str(result.commit) for result in progress.results})
        seconds = sum(result.seconds for result in progress.results)
        took = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
        facts.append(f"- Trained on {', '.join(devices)} for {took} in all, from commit {', '.join(commits)}")
    facts += [f"- Failed: `{job}`: {reason}" for job, reason in progress.failed.items()]
    return [f"# {study.title}", "\n".join(facts)]


def _recipes(study: Study) -> str:
    """The recipe of all rows, or each row's own."""
    runs = {row.title: row.run for row in study.rows if row.estimator is None}
    if len({run.recipe for run in runs.values()}) == 1:
        run = next(iter(runs.values()))
        return f"Recipe `{run.recipe}`, {_phases(run)}"
    return "Each row's own recipe: " + "; ".join(f"{title}, {_phases(run)}" for title, run in runs.items())


def _phases(run: Run) -> str:
    return ", ".join(f"{phase.epochs} epoch{'s' * (phase.epochs > 1)} at {phase.side_px} px" for phase in run.phases)


def _scoring_rule(study: Study) -> str:
    """Folds are scored on images of the training split, with the labels that it has."""
    job = study.jobs[0]
    return job.run.data.validation_rule if job.fold is None else job.run.data.rule


def _limit(study: Study) -> list[str]:
    images = study.jobs[0].images
    return [] if images is None else [f"- Trained on at most {images:,} images, every class with its share"]


def _closing(study: Study, results: Sequence[Result]) -> list[str]:
    texts = [_VALID if study.jobs[0].scored != "test" else _TEST]
    if any(row.slides is not None or row.published is not None for row in study.rows):
        own = any(row.run.initial or row.run.distillation for row in study.rows)
        texts.append((_INITIAL if own else _RANDOM) + _SOURCES)
    if any(result.head_means for result in results):
        texts.append(_ATTENTION)
    notes = [f"- {row.title}: {row.note}" for row in study.rows if row.note] + [f"- {note}" for note in study.notes]
    return [" ".join(texts), *(["\n".join(notes)] if notes else [])]


def _fold_cells(folds: FoldSummary, of: int) -> list[list[str]]:
    """Heading and a line a fold; the slides' figures stand beside ten folds alone."""
    ten = of == len(SLIDES)
    lines = [["seed", "fold", "n/N", "accuracy", "95 % over images", *(["slides, RAF-DB"] if ten else [])]]
    for result in folds.results:
        number = result.fold or 0
        lines.append(
            [
                str(result.seed),
                str(number + 1),
                f"{result.correct:,} of {result.n:,}",
                percent(result.accuracy),
                " to ".join(map(percent, result.ci95)),
                *([f"{SLIDES[number]:g}"] if ten else []),
            ]
        )
    return lines


def _folds_text(folds: FoldSummary) -> list[str]:
    interval = folds.interval
    if interval is None:
        return ["No interval yet: fewer than two folds are done."]
    return [
        f"Mean {percent(interval.mean)}, deviation {100 * interval.deviation:.2f} points over {len(folds.results)} "
        f"folds; 95 % interval of the mean {percents(interval)} (corrected resampled "
        f"t, Nadeau & Bengio 2003, n_test / n_train = {folds.test_share:.4f}). The slides' ten folds: mean 90.635, "
        "deviation 0.58.",
        "Which image belongs to which fold: folds.csv.",
    ]


def _job_rows(results: Iterable[Result]) -> list[list[str]]:
    rows = [list(result.to_dict().items()) for result in results]
    return [[name for name, _ in rows[0]], *([_plain(value) for _, value in row] for row in rows)] if rows else []


def _plain(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
