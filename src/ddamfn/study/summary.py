"""From job results to rows and folds: means, intervals, and which differences exceed noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddamfn.evaluate.metrics import wilson_interval
from ddamfn.study.jobs import Result, Row, Study
from ddamfn.study.runner import JobPredictions, load_predictions
from ddamfn.study.significance import Interval, mcnemar, paired_bootstrap, t_interval

_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row compared with the reference row on the same images and seeds."""

    interval: Interval  # of the accuracy difference: 95 %, paired bootstrap over images and seeds
    p_values: tuple[float, ...]  # McNemar's exact test per seed
    exceeds_noise: bool  # whether the Bonferroni-corrected interval excludes 0
    seeds: int  # number of seeds that both rows have


@dataclass(frozen=True, kw_only=True)
class RowSummary:
    """A summary of a row's finished jobs."""

    row: Row
    results: tuple[Result, ...]  # at least one, by seed
    difference: Difference | None = None  # None for the reference, and without common images and seeds

    @property
    def accuracies(self) -> list[float]:
        """One per seed, 0..1."""
        return [result.accuracy for result in self.results]

    @property
    def mean(self) -> float:
        """Mean accuracy, 0..1."""
        return float(np.mean(self.accuracies))

    @property
    def seeds_interval(self) -> Interval | None:
        """T interval of the mean over seeds; None for one seed."""
        return t_interval(self.accuracies) if len(self.results) > 1 else None

    @property
    def images_interval(self) -> tuple[float, float]:
        """Wilson's interval of the mean accuracy on these images; it ignores the variation between seeds."""
        n = self.results[0].n
        return wilson_interval(round(self.mean * n), n)


def summarize(study: Study, results: Sequence[Result], folder: Path) -> tuple[RowSummary, ...]:
    """Summarize the rows that have a finished job, in the table's order, with predictions read from `folder`."""

    def predictions(name: str | None) -> dict[int, JobPredictions]:
        return {result.seed: load_predictions(folder / result.job) for result in results if result.row == name}

    found = [
        RowSummary(row=row, results=own)
        for row in study.rows
        if (own := tuple(result for result in results if result.row == row.name))
    ]
    reference, compared = predictions(study.reference), sum(one.row.name != study.reference for one in found)
    if not reference:
        return tuple(found)
    return tuple(
        one
        if one.row.name == study.reference
        else replace(one, difference=_difference(predictions(one.row.name), reference, compared))
        for one in found
    )


def fold_interval(results: Sequence[Result]) -> tuple[Interval | None, float]:
    """Return the mean over folds with its corrected interval (None below two results), and mean n_test / n_train."""
    share = float(np.mean([result.n / result.n_train for result in results])) if results else 0.0
    accuracies = [result.accuracy for result in results]
    return (t_interval(accuracies, test_share=share) if len(results) > 1 else None), share


def _difference(
    own: Mapping[int, JobPredictions], reference: Mapping[int, JobPredictions], comparisons: int
) -> Difference | None:
    seeds = sorted(set(own) & set(reference))
    if not seeds:
        return None
    one, other = _paired([own[seed] for seed in seeds], [reference[seed] for seed in seeds])
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


def _paired(
    one: Sequence[JobPredictions], other: Sequence[JobPredictions]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return correctness (S, N) of both on the images that every run was scored on, paired by name."""
    common = sorted(set.intersection(*(set(run.keys.tolist()) for run in (*one, *other))))

    def correct(run: JobPredictions) -> NDArray[np.bool_]:
        place = {key: i for i, key in enumerate(run.keys.tolist())}
        return run.correct[[place[key] for key in common]]

    return np.array([correct(run) for run in one]), np.array([correct(run) for run in other])


def verdict(study: Study, summaries: Sequence[RowSummary]) -> str:
    """State in one sentence which differences from the reference exceed noise, and what noise means."""
    compared = [(summary.row, summary.difference) for summary in summaries if summary.difference is not None]
    if study.reference is None or not compared:
        return "No difference can be judged yet: fewer than two rows have a finished job on common images and seeds."
    name = study.row(study.reference).title
    found = [f"{_title(row)} ({100 * d.interval.mean:+.2f} points)" for row, d in compared if d.exceeds_noise]
    rest = [_title(row) for row, difference in compared if not difference.exceeds_noise]
    parts = []
    if found:
        parts.append(f"against {name}, larger than noise: {', '.join(found)}")
    if rest:
        parts.append(f"not larger than noise{'' if found else f' against {name}'}: {', '.join(rest)}")
    seeds = min(difference.seeds for _, difference in compared)
    images = "test images" if study.jobs[0].scored == "test" else "validation images"
    noise = (
        f"with one seed, noise is the choice of {images} alone, and what another seed would give is not known"
        if seeds == 1
        else f"noise is the choice of {images} and of {seeds} seeds"
    )
    text = f"{'; '.join(parts)} ({noise}; intervals widened for {len(compared)} comparison{'s' * (len(compared) > 1)})."
    return text[0].upper() + text[1:]


def _title(row: Row) -> str:
    """Return a row's title for use in a list."""
    return f'"{row.title}"' if "," in row.title else row.title
