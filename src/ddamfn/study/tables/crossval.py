"""K-fold cross-validation."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddamfn.evaluate.significance import Interval, corrected_t_interval
from ddamfn.study.images import StudyImages, folds_of
from ddamfn.study.jobs import Fold, Job, Plan, Result, Row, Study, attention_note
from ddamfn.train import Run
from ddamfn.train.run_folder import replace_file

SLIDES = (90.69, 90.23, 89.89, 90.82, 89.83, 91.02, 91.82, 90.55, 90.55, 90.95)
"""The slides' ten folds on RAF-DB, in per cent; their mean is 90.635."""

_COMPARISON = (
    "The slides' comparison with other methods uses the mean of these ten folds, 90.635, beside figures of others on "
    "RAF-DB's test split; on that split the slides give 91.35."
)


def crossval(base: Run, plan: Plan, *, folds: int, grouped: bool) -> Study:
    """Build the study.

    Args:
        base: what is trained in every fold.
        plan: data set, seeds; the folds are the same for each.
        folds: how many.
        grouped: keep every subject on one side; otherwise every class has its share in each fold.
    """
    row = Row(name="ddamfn", title="DDAMFN, 2 heads", run=base, slides=90.635)
    jobs = tuple(
        Job(row=row.name, run=replace(base, seed=seed), data=plan.data, images=plan.images, commit=plan.commit,
            fold=Fold(number=k, of=folds, grouped=grouped))
        for seed in range(plan.seeds)
        for k in range(folds)
    )  # fmt: skip
    name = f"crossval-{folds}{'-subjects' if grouped else ''}"
    title = f"Cross-validation, {folds} folds, {'grouped by subject' if grouped else 'stratified by class'}"
    return Study(
        name=name, title=title, rows=(row,), reference=None, jobs=jobs, notes=(_COMPARISON, *attention_note(base))
    )


@dataclass(frozen=True, kw_only=True)
class FoldSummary:
    """What the folds came to.

    Attributes:
        results: by seed and fold.
        accuracies: of each result, 0..1.
        interval: corrected resampled t interval; None with fewer than two results.
        test_share: mean n_test / n_train, with the images really trained on.
    """

    results: tuple[Result, ...]
    accuracies: tuple[float, ...]
    interval: Interval | None
    test_share: float


def summarize_folds(results: Sequence[Result]) -> FoldSummary:
    """Mean, deviation and interval of the folds that are done."""
    accuracies = tuple(result.accuracy for result in results)
    share = float(np.mean([result.n / result.n_train for result in results])) if results else 0.0
    interval = corrected_t_interval(accuracies, share) if len(results) > 1 else None
    return FoldSummary(results=tuple(results), accuracies=accuracies, interval=interval, test_share=share)


def write_folds(study: Study, images: StudyImages, path: Path) -> None:
    """Save which image is scored in which fold, and of which class and subject it is, as CSV.

    Raises:
        TrainingError: if the file cannot be written.
    """
    job = study.jobs[0]
    assert job.fold is not None
    pool, subjects = images.pool(job.run.data)
    fold_of = np.zeros(len(pool), dtype=np.int64)
    for number, (_, held) in enumerate(folds_of(pool, subjects, job.fold), start=1):
        fold_of[held] = number
    labels = pool.targets.argmax(dim=1).tolist()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["key", "class", "subject", "fold"])
    for key, label, subject, fold in zip(pool.keys, labels, subjects, fold_of.tolist(), strict=True):
        writer.writerow([key, pool.classes[label], subject or "", fold])
    replace_file(path, buffer.getvalue().encode(errors="surrogateescape"))
