"""Several studies by priority, one after another, within one time budget."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddamfn.errors import DdamfnError
from ddamfn.export import weights
from ddamfn.study.catalog import QUEUE
from ddamfn.study.images import StudyImages
from ddamfn.study.jobs import Plan, Study
from ddamfn.study.runner import StudyOutcome
from ddamfn.study.tables.ablations import ablation
from ddamfn.study.tables.comparison import comparison
from ddamfn.study.tables.crossval import crossval
from ddamfn.study.tables.factors import AblationOptions, factors
from ddamfn.study.tables.seeds import seeds
from ddamfn.train import Run
from ddamfn.train.run_folder import read_run

_FOLDS = 10


def build_queue(
    names: Collection[str],
    base: Callable[[str | None], Run],
    plan: Plan,
    *,
    recipe: str | None,
    best: str,
    options: Callable[[Run], AblationOptions],
    again: Mapping[str, Any],
    runs: Path,
) -> dict[str, Study]:
    """Build all studies in the order of `QUEUE`, so that an invalid setting is found before the first one runs."""

    def build(name: str) -> Study:
        run = base(best if name in ("factors", "best") else recipe)
        if name == "factors":
            return factors(run, plan, options(run))
        if name == "comparison":
            return comparison(run, plan)
        if name == "crossval":
            return crossval(run, replace(plan, seeds=1), folds=_FOLDS, grouped=False)
        return seeds(run, plan, runs=runs, again=again) if name == "best" else ablation(name, run, plan)

    return {name: build(name) for name in QUEUE if name in names}


def run_queue(
    studies: Mapping[str, Study],
    run: Callable[[str, Study, float | None], StudyOutcome],
    say: Callable[[str], None],
    budget_s: float | None,
) -> bool:
    """Run studies in order within a time budget; return whether every study and job succeeded.

    A failed study stops no other one, and the first one starts even if the budget is 0.
    """
    end, well = None if budget_s is None else time.monotonic() + budget_s, True
    for place, (name, study) in enumerate(studies.items()):
        left = None if end is None else max(0.0, end - time.monotonic())
        if left == 0.0 and place:
            say(f"{study.name} waits: the budget is spent; the same command resumes it")
            continue
        try:
            well &= not run(name, study, left).failed
        except DdamfnError as error:
            well = False
            say(f"{study.name}: {' '.join(str(error).split())}")
    return well


def export_best(study: Study, outcome: StudyOutcome, images: StudyImages, runs: Path) -> str:
    """Export the last round's best run on validation once all seeds are done; return the message about it."""
    if outcome.waiting or outcome.failed:
        return f"{study.name}: nothing is exported before all seeds are done"
    job, folder = study.jobs[0], runs / "weights"
    name = job.run.recipe
    if (folder / f"{name}.onnx").exists():
        return f"{folder / name}.onnx is kept; delete it to export the best run again"
    results = [result for result in outcome.results if result.row == study.rows[-1].name]
    best = max(results, key=lambda result: (result.accuracy, -result.seed))
    finished, *others = (read_run(runs / study.name / one.job) for one in sorted(results, key=lambda one: one != best))
    folder.mkdir(parents=True, exist_ok=True)
    prepared = images.prepared(job.run.data.alignment)
    done = weights.export_run(finished, name, folder, prepared=prepared, seeds=others)
    return (
        f"{done.path}  seed {best.seed}, {best.accuracy:.4f} on validation\n"
        f"score it once with: ddamfn eval --weights {done.path} --data {job.data} --split test --record"
    )
