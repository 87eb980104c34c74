"""The report of a study: Markdown, CSV and chart."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ddamfn.evaluate.plots import BLUE, GRAY, ORANGE, new_figure, set_title, write_figure
from ddamfn.files import csv_lines, write_bytes
from ddamfn.study.images import StudyImages, folds_of
from ddamfn.study.jobs import Ledger, Result, Study, writing
from ddamfn.study.runner import StudyOutcome
from ddamfn.study.significance import Interval
from ddamfn.study.summary import RowSummary, fold_interval, summarize, verdict
from ddamfn.study.tables.crossval import REPORTED_FOLDS
from ddamfn.train import Run, run_folder

REPORT, TABLE, JOBS, CHART, FOLDS = "report.md", "table.csv", "jobs.csv", "chart.png", "folds.csv"

_TEST = (
    "Each job's network is the epoch that was best on validation images; the images scored here were read once per "
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
    "be had, and many on an epoch chosen by test images. Published figures and those reported on the slides are of "
    "RAF-DB and stand in columns of their own, not to be subtracted from ours."
)
_ATTENTION = (
    "Attention, on validation: the mean of each head's map; how much the heads differ (mean squared difference); the "
    "mean of their maximum, which weighs the features: near 1 the attention is switched off, whatever the heads are."
)


def write_report(
    study: Study, outcome: StudyOutcome, folder: Path, destination: Path | None, *, command: str, data: str
) -> tuple[str, Path]:
    """Write report.md, table.csv, jobs.csv and chart.png; return the report's text and folder.

    Without a destination, the folder is in docs/studies, named by study, date and commit. Files of the same names
    are replaced.
    """
    date, commit = datetime.now(UTC).date().isoformat(), run_folder.commit() or "no-commit"
    destination = destination or Path("docs/studies") / f"{study.name}-{date}-{commit}"
    destination.mkdir(parents=True, exist_ok=True)
    results, fold = outcome.results, study.jobs[0].fold
    if fold is None:
        summaries = summarize(study, results, folder)
        table = _row_cells(study, summaries, folder)
        body = [] if study.reference is None else [verdict(study, summaries)]
        draw_rows(study, summaries, destination / CHART)
    else:
        interval, test_share = fold_interval(results)
        table, body = _fold_cells(results, fold.of), _folds_text(len(results), interval, test_share)
        draw_folds(study, results, interval, destination / CHART)
    origin = [f"- {date}, commit `{commit}`, `{command}`", f"- Data: {data}"]
    parts = [
        f"# {study.title}",
        "\n".join([*origin, *_facts(study, outcome)]),
        _markdown(table),
        *body,
        *_closing(study, results),
    ]
    text = "\n\n".join(parts) + "\n"
    _write(destination / REPORT, text)
    _write_csv(destination / TABLE, table)
    rows = [asdict(result) for result in results]
    _write_csv(destination / JOBS, [*([list(rows[0])] if rows else []), *(map(_plain, row.values()) for row in rows)])
    return text, destination


def write_folds(study: Study, images: StudyImages, destination: Path) -> None:
    """Write folds.csv: the fold, class and subject of every scored image."""
    job = study.jobs[0]
    assert job.fold is not None
    pool, subjects = images.pool(job.run.data)
    fold_of = np.zeros(len(pool), dtype=np.int64)
    for number, (_, held) in enumerate(folds_of(pool, subjects, job.fold), start=1):
        fold_of[held] = number
    labels = [pool.classes[label] for label in pool.targets.argmax(dim=1).tolist()]
    people = [subject or "" for subject in subjects]
    columns = zip(pool.keys, labels, people, map(str, fold_of), strict=True)
    _write_csv(destination / FOLDS, [["key", "class", "subject", "fold"], *columns])


def draw_rows(study: Study, summaries: Sequence[RowSummary], path: Path) -> None:
    """Draw each row's accuracies by seed, their mean, and its interval over the scored images."""
    figure, axes = new_figure(7.6, 1.4 + 0.45 * max(len(summaries), 1))
    for place, summary in enumerate(summaries):
        low, high = (100 * end for end in summary.images_interval)
        color = ORANGE if summary.row.name == study.reference else BLUE
        axes.plot([low, high], [place, place], color=color, linewidth=2, alpha=0.5)
        accuracies = [100 * accuracy for accuracy in summary.accuracies]
        axes.scatter(accuracies, [place] * len(accuracies), color=color, s=14, zorder=3)
        axes.scatter([100 * summary.mean], [place], color=color, s=60, marker="|", zorder=4)
    axes.set_yticks(range(len(summaries)), [summary.row.title for summary in summaries])
    axes.invert_yaxis()
    # In two lines and from the right: long titles of rows leave little room beside them, and much below.
    axes.set_xlabel("accuracy, %\none dot per seed, the bar is 95 % over the images", loc="right")
    set_title(axes, study.title)
    write_figure(figure, path)


def draw_folds(study: Study, results: Sequence[Result], interval: Interval | None, path: Path) -> None:
    """Draw every fold's accuracy, their mean and its corrected interval."""
    figure, axes = new_figure(7.6, 3.4)
    numbers = [(result.fold or 0) + 1 for result in results]
    axes.scatter(numbers, [100 * result.accuracy for result in results], color=BLUE, zorder=3)
    if interval is not None:
        axes.axhline(100 * interval.mean, color=GRAY, linewidth=1)
        axes.axhspan(100 * interval.low, 100 * interval.high, color=GRAY, alpha=0.15)
    axes.set_xticks(sorted(set(numbers)))
    axes.set_xlabel("fold: one dot per run, the line is their mean, the band its corrected 95 % interval")
    axes.set_ylabel("accuracy, %")
    set_title(axes, study.title)
    write_figure(figure, path)


def percent(share: float) -> str:
    """Format a share of 1 in percent with two digits."""
    return f"{100 * share:.2f} %"


def percents(interval: Interval) -> str:
    """Format an accuracy's interval, clipped to 0..1, which it may exceed with few seeds or folds."""
    return f"{percent(max(interval.low, 0.0))} to {percent(min(interval.high, 1.0))}"


Column = tuple[str, Callable[[RowSummary], str]]


def _counts(summary: RowSummary) -> str:
    correct = ", ".join(f"{result.correct:,}" for result in summary.results)
    return f"{correct} of {summary.results[0].n:,}"


def _accuracy(summary: RowSummary) -> str:
    over = summary.seeds_interval
    spread = "one seed" if over is None else f"± {100 * over.deviation:.2f}, {len(summary.results)} seeds"
    return f"{percent(summary.mean)} ({spread})"


def _difference(summary: RowSummary) -> tuple[str, str, str]:
    """Format the difference from the reference, its interval, and McNemar's p-values."""
    if summary.difference is None:
        return "reference", "", ""
    interval, p_values = summary.difference.interval, summary.difference.p_values
    points, low, high = (f"{100 * end:+.2f}" for end in (interval.mean, interval.low, interval.high))
    return points, f"{low} to {high}", ", ".join(f"{p:.2g}" for p in p_values)


def _heads(summary: RowSummary) -> tuple[str, str, str]:
    """Return the heads' means, their difference, and the mean of their maximum, over all seeds."""
    found = [result for result in summary.results if result.head_means]
    if not found:
        return "", "", ""
    means = ", ".join(f"{mean:.2f}" for mean in np.mean([result.head_means for result in found], axis=0))
    several = [result.head_difference for result in found if len(result.head_means) > 1]
    maximum = f"{np.mean([result.max_attention_mean for result in found]):.2f}"
    return means, f"{np.mean(several):.3f}" if several else "", maximum


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


_COLUMNS: tuple[Column, ...] = (
    ("row", lambda summary: summary.row.title),
    ("n/N", _counts),
    ("accuracy, mean ± deviation over seeds", _accuracy),
    ("95 % over seeds", lambda summary: "" if summary.seeds_interval is None else percents(summary.seeds_interval)),
    ("95 % over images", lambda summary: " to ".join(map(percent, summary.images_interval))),
    ("parameters", lambda summary: f"{summary.results[0].parameters:,}" if summary.results[0].parameters else ""),
    ("difference, points", lambda summary: _difference(summary)[0]),
    ("its 95 %", lambda summary: _difference(summary)[1]),
    ("McNemar p, seed by seed", lambda summary: _difference(summary)[2]),
)
_WHERE_THERE_ARE_ANY: tuple[Column, ...] = (
    ("heads' means", lambda summary: _heads(summary)[0]),
    ("heads' difference", lambda summary: _heads(summary)[1]),
    ("maximum's mean", lambda summary: _heads(summary)[2]),
    ("published on RAF-DB", lambda summary: _figure(summary.row.published)),
    ("reported on RAF-DB", lambda summary: _figure(summary.row.reported)),
)


def _row_cells(study: Study, summaries: Sequence[RowSummary], folder: Path) -> list[list[str]]:
    """Return the heading and one line per row; `study.beside` is in the same folder as the study."""
    columns = [*_COLUMNS, *_beside(study, folder)]
    columns += [column for column in _WHERE_THERE_ARE_ANY if any(column[1](summary) for summary in summaries)]
    return [[head for head, _ in columns], *([make(summary) for _, make in columns] for summary in summaries)]


def _beside(study: Study, folder: Path) -> list[Column]:
    """Summarize the finished rows under the other study's conditions."""
    other = study.beside
    if other is None:
        return []
    done = Ledger(folder.parent / other.name).results

    def accuracy(summary: RowSummary) -> str:
        jobs = (job for job in other.jobs if job.row == summary.row.name)
        found = tuple(done[job.id] for job in jobs if job.id in done)
        return _accuracy(RowSummary(row=summary.row, results=found)) if found else "not run"

    return [(f"ours, {other.title.partition(', ')[2]}", accuracy)]


def _fold_cells(results: Sequence[Result], of: int) -> list[list[str]]:
    """Return the heading and one line per fold; reported figures are shown for ten folds only."""
    ten = of == len(REPORTED_FOLDS)
    lines = [["seed", "fold", "n/N", "accuracy", "95 % over images", *(["reported on RAF-DB"] if ten else [])]]
    for result in results:
        number = result.fold or 0
        lines.append(
            [
                str(result.seed),
                str(number + 1),
                f"{result.correct:,} of {result.n:,}",
                percent(result.accuracy),
                " to ".join(map(percent, result.ci95)),
                *([f"{REPORTED_FOLDS[number]:g}"] if ten else []),
            ]
        )
    return lines


def _folds_text(n: int, interval: Interval | None, test_share: float) -> list[str]:
    if interval is None:
        return ["No interval yet: fewer than two folds are done."]
    return [
        f"Mean {percent(interval.mean)}, deviation {100 * interval.deviation:.2f} points over {n} folds; 95 % interval "
        f"of the mean {percents(interval)} (corrected resampled t, Nadeau & Bengio 2003, n_test / n_train = "
        f"{test_share:.4f}). The slides' ten folds: mean 90.635, deviation 0.58.",
        f"Which image belongs to which fold: {FOLDS}.",
    ]


def _facts(study: Study, outcome: StudyOutcome) -> list[str]:
    job, results = study.jobs[0], outcome.results
    # Folds are scored on images of the training split, with the labels that it has.
    rule = job.run.data.validation_rule if job.fold is None else job.run.data.rule
    facts = [f"- {_recipes(study)}; rule {job.run.data.rule} to train on, {rule} to score on"]
    if job.images is not None:
        facts.append(f"- Trained on at most {job.images:,} images, every class with its share, rare ones whole")
    facts.append(f"- {len(results)} of {len(study.jobs)} jobs done")
    if results:
        devices = ", ".join(sorted({result.device for result in results}))
        commits = ", ".join(sorted({str(result.commit) for result in results}))
        seconds = sum(result.seconds for result in results)
        took = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
        facts.append(f"- Trained on {devices} for {took} in all, from commit {commits}")
    return facts + [f"- Failed: `{name}`: {reason}" for name, reason in outcome.failed.items()]


def _recipes(study: Study) -> str:
    """Return the common recipe, or each row's own."""
    runs = {row.title: row.run for row in study.rows if row.estimator is None}
    if len({run.recipe for run in runs.values()}) == 1:
        run = next(iter(runs.values()))
        return f"Recipe `{run.recipe}`, {_phases(run)}"
    return "Each row's own recipe: " + "; ".join(f"{title}, {_phases(run)}" for title, run in runs.items())


def _phases(run: Run) -> str:
    return ", ".join(f"{phase.epochs} epoch{'s' * (phase.epochs > 1)} at {phase.side_px} px" for phase in run.phases)


def _closing(study: Study, results: Sequence[Result]) -> list[str]:
    texts = [_VALID if study.jobs[0].scored != "test" else _TEST]
    if any(row.reported is not None or row.published is not None for row in study.rows):
        own = any(row.run.initial or row.run.distillation for row in study.rows)
        texts.append((_INITIAL if own else _RANDOM) + _SOURCES)
    if any(result.head_means for result in results):
        texts.append(_ATTENTION)
    notes = [f"- {row.title}: {row.note}" for row in study.rows if row.note] + [f"- {note}" for note in study.notes]
    return [" ".join(texts), *(["\n".join(notes)] if notes else [])]


def _plain(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _write_csv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    _write(path, csv_lines(rows))


def _write(path: Path, text: str) -> None:
    with writing(path):
        write_bytes(path, text.encode(errors="surrogateescape"))
