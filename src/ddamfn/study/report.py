"""A study as files for readers: Markdown, two CSV tables, one chart."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddamfn.study.chart import draw_folds, draw_rows
from ddamfn.study.crossval import SLIDES, FoldSummary, summarise_folds
from ddamfn.study.jobs import Study
from ddamfn.study.results import Result
from ddamfn.study.runner import Progress
from ddamfn.study.summary import summarise, verdict
from ddamfn.study.table import cells, percent, percents
from ddamfn.train import Run
from ddamfn.train.checkpoint import replace_file

REPORT, TABLE, JOBS, CHART = "report.md", "table.csv", "jobs.csv", "chart.png"

_TEST = (
    "Each job's network is the epoch that was best on validation pictures; the pictures scored here were read once a "
    "job, after its training had ended, and chose nothing."
)
_VALID = (
    "Scored on validation, for choosing: the same pictures chose each run's epoch, so every row is somewhat too high, "
    "the baseline like the others. The test split was not opened."
)
_RANDOM = "All runs begin with random weights: "
_INITIAL = "Some runs begin with other weights than published ones or learn from teachers: "
_SOURCES = (
    "the published figures rest on weights of face recognition that can no longer "
    "be had, and many on an epoch chosen by test pictures. Published figures and the slides' are of RAF-DB and stand "
    "in columns of their own, not to be subtracted from ours."
)
_ATTENTION = (
    "Attention, on validation: the mean of each head's map; how much the heads differ (mean squared difference); the "
    "mean of their maximum, which weighs the features: near 1 the attention is switched off, whatever the heads are."
)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
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
    study: Study, progress: Progress, folder: Path, destination: Path, circumstances: Circumstances
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
        summaries = summarise(study, progress.results, folder)
        head, rows = cells(study, summaries, folder)
        body = [] if study.reference is None else [verdict(study, summaries)]
        draw_rows(study, summaries, destination / CHART)
    else:
        folds = summarise_folds(progress.results)
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


def _heading(study: Study, progress: Progress, circumstances: Circumstances) -> list[str]:
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
    """Folds are scored on pictures of the training split, with the labels that it has."""
    job = study.jobs[0]
    return job.run.data.validation_rule if job.fold is None else job.run.data.rule


def _limit(study: Study) -> list[str]:
    pictures = study.jobs[0].pictures
    return [] if pictures is None else [f"- Trained on at most {pictures:,} pictures, every class with its share"]


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
    lines = [["seed", "fold", "n/N", "accuracy", "95 % over pictures", *(["slides, RAF-DB"] if ten else [])]]
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
        "Which picture belongs to which fold: folds.csv.",
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
