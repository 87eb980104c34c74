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
from ddamfn.study.summary import RowSummary, summarise, verdict
from ddamfn.train.checkpoint import replace_file

REPORT, TABLE, JOBS, CHART = "report.md", "table.csv", "jobs.csv", "chart.png"

_HEAD = (
    "row", "n/N", "accuracy, mean ± deviation over seeds", "95 % over seeds", "95 % over pictures", "parameters",
    "difference", "its 95 %", "McNemar p, seed by seed", "published on RAF-DB", "slides, RAF-DB",
)  # fmt: skip

_PROTOCOL = (
    "Each job's network is the epoch that was best on validation pictures; the pictures scored here were read once a "
    "job, after its training had ended, and chose nothing. All runs begin with random weights: the published figures "
    "rest on weights of face recognition that can no longer be had, and many on an epoch chosen by test pictures. "
    "Published figures and the slides' are of RAF-DB and stand in columns of their own, not to be subtracted from ours."
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
        rows, body = [_cells(summary) for summary in summaries], _rows_text(study, summaries)
        head: Sequence[str] = _HEAD
        draw_rows(study, summaries, destination / CHART)
    else:
        folds = summarise_folds(progress.results)
        head, rows, body = ("seed", "fold", "n/N", "accuracy", "slides, RAF-DB"), _fold_cells(folds), _folds_text(folds)
        draw_folds(study, folds, destination / CHART)
    text = (
        "\n\n".join([*_heading(study, progress, circumstances), _markdown(head, rows), *body, *_closing(study)]) + "\n"
    )
    replace_file(destination / REPORT, text.encode())
    replace_file(destination / TABLE, _csv([head, *rows]))
    replace_file(destination / JOBS, _csv(_job_rows(progress.results)))
    return text


def _heading(study: Study, progress: Progress, circumstances: Circumstances) -> list[str]:
    run = study.jobs[0].run
    phases = ", ".join(f"{phase.epochs} epochs at {phase.side_px} px" for phase in run.phases)
    facts = [
        f"- {circumstances.date}, commit `{circumstances.commit}`, `{circumstances.command}`",
        f"- Data: {circumstances.data}",
        f"- Recipe `{run.recipe}`, {phases}; rule {run.data.rule} to train on, {run.data.validation_rule} to score on",
        f"- {len(progress.results)} of {len(study.jobs)} jobs done",
    ]
    if progress.results:
        devices = sorted({result.device for result in progress.results})
        commits = sorted({str(result.commit) for result in progress.results})
        hours = sum(result.seconds for result in progress.results) / 3600
        facts.append(f"- Trained on {', '.join(devices)} for {hours:.2f} h in all, from commit {', '.join(commits)}")
    facts += [f"- Failed: `{job}`: {reason}" for job, reason in progress.failed.items()]
    return [f"# {study.title}", "\n".join(facts)]


def _closing(study: Study) -> list[str]:
    notes = [f"{row.title}: {row.note}" for row in study.rows if row.note]
    return (
        [_PROTOCOL, "\n".join(f"- {note}" for note in (*notes, *study.notes))] if notes or study.notes else [_PROTOCOL]
    )


def _rows_text(study: Study, summaries: Sequence[RowSummary]) -> list[str]:
    return [verdict(study, summaries)]


def _cells(summary: RowSummary) -> list[str]:
    row, results, difference = summary.row, summary.results, summary.difference
    correct = ", ".join(f"{result.correct:,}" for result in results)
    spread = "one seed" if summary.deviation is None else f"± {100 * summary.deviation:.2f}, {len(results)} seeds"
    seeds = summary.seeds_interval
    return [
        row.title,
        f"{correct} of {results[0].n:,}",
        f"{_percent(summary.mean)} ({spread})",
        "" if seeds is None else f"{_percent(seeds.low)} to {_percent(seeds.high)}",
        " to ".join(map(_percent, summary.pictures_interval)),
        f"{results[0].parameters:,}",
        "reference" if difference is None else f"{100 * difference.interval.mean:+.2f}",
        "" if difference is None else f"{100 * difference.interval.low:+.2f} to {100 * difference.interval.high:+.2f}",
        "" if difference is None else ", ".join(f"{p:.2g}" for p in difference.p_values),
        "" if row.published is None else f"{row.published:g}",
        "" if row.slides is None else f"{row.slides:g}",
    ]


def _fold_cells(folds: FoldSummary) -> list[list[str]]:
    ten = bool(folds.results) and max(result.fold or 0 for result in folds.results) < len(SLIDES)
    return [
        [
            str(result.seed),
            str((result.fold or 0) + 1),
            f"{result.correct:,} of {result.n:,}",
            _percent(result.accuracy),
            f"{SLIDES[result.fold or 0]:g}" if ten else "",
        ]
        for result in folds.results
    ]


def _folds_text(folds: FoldSummary) -> list[str]:
    interval = folds.interval
    if interval is None:
        return ["No interval yet: fewer than two folds are done."]
    return [
        f"Mean {_percent(interval.mean)}, deviation {100 * interval.deviation:.2f} points over {len(folds.results)} "
        f"folds; 95 % interval of the mean {_percent(interval.low)} to {_percent(interval.high)} (corrected resampled "
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


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
