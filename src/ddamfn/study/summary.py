"""From the jobs' results to the rows of the table: means, intervals, and which differences exceed noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddamfn.evaluate.metrics import wilson_interval
from ddamfn.evaluate.significance import Interval, mcnemar, paired_bootstrap, t_interval
from ddamfn.study.jobs import Result, Row, Study
from ddamfn.study.runner import Answers, load_answers

_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row against the reference row, on the same images and with the same seeds.

    Attributes:
        interval: of the difference of accuracies, 95 %, paired bootstrap over images and seeds.
        p_values: McNemar's exact test, seed by seed.
        exceeds_noise: whether the interval lies on one side of 0 when it is widened for the number of comparisons
            (Bonferroni).
        seeds: how many seeds both rows have.
    """

    interval: Interval
    p_values: tuple[float, ...]
    exceeds_noise: bool
    seeds: int


@dataclass(frozen=True, kw_only=True)
class RowSummary:
    """What a row's jobs came to.

    Attributes:
        row: the row.
        results: its finished jobs, by seed.
        mean: of the accuracies, 0..1.
        deviation: of the accuracies over seeds; None for one seed.
        seeds_interval: t interval of the mean over seeds; None for one seed.
        images_interval: Wilson's of the mean accuracy on these images, blind to what another seed would give.
        difference: to the reference; None for the reference itself, and without common images and seeds.
    """

    row: Row
    results: tuple[Result, ...]
    mean: float
    deviation: float | None
    seeds_interval: Interval | None
    images_interval: tuple[float, float]
    difference: Difference | None


def summarize(study: Study, results: Sequence[Result], folder: Path) -> tuple[RowSummary, ...]:
    """Summaries of the rows that have a finished job, in the table's order.

    Args:
        study: the table.
        results: finished jobs.
        folder: of the study; the jobs' answers are read there.

    Raises:
        TrainingError: if a job's answers are missing.
    """
    by_row = {row.name: tuple(r for r in results if r.row == row.name) for row in study.rows}
    compared = [name for name, found in by_row.items() if found and name != study.reference]
    reference = _answers(by_row.get(study.reference or "", ()), folder)
    summaries = []
    for row in study.rows:
        found = by_row[row.name]
        if not found:
            continue
        difference = None
        if row.name != study.reference and reference:
            difference = _difference(_answers(found, folder), reference, len(compared))
        accuracies = [result.accuracy for result in found]
        several = t_interval(accuracies) if len(found) > 1 else None
        mean, n = float(np.mean(accuracies)), found[0].n
        summaries.append(
            RowSummary(
                row=row,
                results=found,
                mean=mean,
                deviation=None if several is None else several.deviation,
                seeds_interval=several,
                images_interval=wilson_interval(round(mean * n), n),
                difference=difference,
            )
        )
    return tuple(summaries)


def _answers(results: Sequence[Result], folder: Path) -> dict[int, Answers]:
    return {result.seed: load_answers(folder / result.job) for result in results}


def _difference(mine: Mapping[int, Answers], reference: Mapping[int, Answers], comparisons: int) -> Difference | None:
    seeds = sorted(set(mine) & set(reference))
    if not seeds:
        return None
    one, other = _paired([mine[seed] for seed in seeds], [reference[seed] for seed in seeds])
    if one.shape[1] == 0:
        return None
    interval = paired_bootstrap(one, other, np.random.default_rng(_BOOTSTRAP_SEED))
    level = 1 - 0.05 / comparisons
    wide = paired_bootstrap(one, other, np.random.default_rng(_BOOTSTRAP_SEED), level=level)
    return Difference(
        interval=interval,
        p_values=tuple(mcnemar(a, b) for a, b in zip(one, other, strict=True)),
        exceeds_noise=wide.low > 0 or wide.high < 0,
        seeds=len(seeds),
    )


def _paired(one: Sequence[Answers], other: Sequence[Answers]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Right answers (S, N) of both to the images that every run was scored on, paired by the images' names."""
    common = sorted(set.intersection(*(set(answers.keys.tolist()) for answers in (*one, *other))))

    def right(answers: Answers) -> NDArray[np.bool_]:
        place = {key: i for i, key in enumerate(answers.keys.tolist())}
        return answers.right[[place[key] for key in common]]

    return np.array([right(a) for a in one]), np.array([right(a) for a in other])


def verdict(study: Study, summaries: Sequence[RowSummary]) -> str:
    """One sentence that says which differences from the reference are larger than noise, and what noise means."""
    compared = [summary for summary in summaries if summary.difference is not None]
    if study.reference is None or not compared:
        return "No difference can be judged yet: fewer than two rows have a finished job on common images and seeds."
    name = study.row(study.reference).title
    found = [_phrase(s, s.difference) for s in compared if s.difference and s.difference.exceeds_noise]
    rest = [_title(s.row) for s in compared if s.difference and not s.difference.exceeds_noise]
    parts = []
    if found:
        parts.append(f"against {name}, larger than noise: {', '.join(found)}")
    if rest:
        parts.append(f"not larger than noise{'' if found else f' against {name}'}: {', '.join(rest)}")
    seeds = min(s.difference.seeds for s in compared if s.difference)
    images = "test images" if study.jobs[0].scored == "test" else "validation images"
    noise = (
        f"with one seed, noise is the choice of {images} alone, and what another seed would give is not known"
        if seeds == 1
        else f"noise is the choice of {images} and of {seeds} seeds"
    )
    text = f"{'; '.join(parts)} ({noise}; intervals widened for {len(compared)} comparison{'s' * (len(compared) > 1)})."
    return text[0].upper() + text[1:]


def _phrase(summary: RowSummary, difference: Difference) -> str:
    return f"{_title(summary.row)} ({100 * difference.interval.mean:+.2f} points)"


def _title(row: Row) -> str:
    """A row's title as a member of a list."""
    return f'"{row.title}"' if "," in row.title else row.title
