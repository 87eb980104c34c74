"""`ddamfn study queue`: studies one after another, the most wanted first, within one budget of time."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.progress import duration
from ddamfn.cli.study_run import (
    Build,
    ablation,
    build_study,
    carry_out,
    comparison,
    crossval,
    factors,
    list_jobs,
    open_images,
    require_torch,
    seeds,
)
from ddamfn.errors import DdamfnError

if TYPE_CHECKING:
    from ddamfn.study import Progress, Study, StudyImages

QUEUE = ("heads", "backbones", "factors", "comparison", "crossval", "best")

_FOLDS = 10


def run_queue(args: argparse.Namespace) -> int:
    """Run the studies in the order of `QUEUE`; one that cannot go on stops no other.

    Returns:
        0, or 1 if a job or a study failed.

    Raises:
        MissingExtra: if PyTorch is not installed.
        UsageError: if a study cannot be built.
    """
    require_torch()
    chosen = [name for name in QUEUE if name in args.studies]
    # All are built before the first runs: a wrong setting is known now, not in the night.
    built = [(name, own, build_study(own, build)) for name in chosen for own, build in [_item(args, name)]]
    if args.dry_run:
        seconds = sum(list_jobs(own, study, each=False) for _, own, study in built)
        print(f"about {duration(seconds)} left in all")
        return 0
    end = None if args.budget is None else time.monotonic() + 60 * args.budget
    images, failed = open_images(args), False
    for name, own, study in built:
        left = None if end is None else max(0.0, (end - time.monotonic()) / 60)
        if left == 0.0 and name != chosen[0]:
            print(f"ddamfn: {study.name} waits: the budget is spent; the same command goes on", file=sys.stderr)
            continue
        try:
            progress = carry_out(own, study, images, left)
            failed |= bool(progress.failed)
            if name == "best":
                _export_best(own, study, progress, images)
        except DdamfnError as error:
            failed = True
            print(f"ddamfn: {study.name}: {' '.join(str(error).split())}", file=sys.stderr)
    return 1 if failed else 0


def _item(args: argparse.Namespace, name: str) -> tuple[argparse.Namespace, Build]:
    """The command line that a study of the queue has by itself, and how it is built."""
    others = {"studies", "best"} if name == "best" else {"studies", "best", "again"}
    own = argparse.Namespace(**{key: value for key, value in vars(args).items() if key not in others})
    if args.output is not None:
        own.output = args.output / name
    if name in ("heads", "backbones"):
        own.table, own.rows, own.pretrained, own.teachers = name, [], [], []
        return own, ablation
    if name == "factors":
        own.table, own.recipe = name, args.best
        return own, factors
    if name == "comparison":
        own.methods, own.as_published = None, False
        return own, comparison
    if name == "crossval":
        own.folds, own.groups, own.seeds = _FOLDS, None, 1
        return own, crossval
    own.recipe = args.best
    return own, seeds


def _export_best(args: argparse.Namespace, study: "Study", progress: "Progress", images: "StudyImages") -> None:
    """Export the run of the last round that is best on validation, once all seeds are done."""
    if progress.waiting or progress.failed:
        return
    results = [result for result in progress.results if result.row == study.rows[-1].name]
    best = max(results, key=lambda result: (result.accuracy, -result.seed))
    name, folder = study.jobs[0].run.recipe, args.runs / "weights"
    if (folder / f"{name}.onnx").exists():
        print(f"{folder / name}.onnx is kept; delete it to export the best run anew")
        return
    from ddamfn.export.weights import export_run
    from ddamfn.train.run_folder import read_run

    finished, *others = (
        read_run(args.runs / study.name / one.job) for one in sorted(results, key=lambda one: one != best)
    )
    folder.mkdir(parents=True, exist_ok=True)
    prepared = images.prepared(study.jobs[0].run.data.alignment)
    done = export_run(finished, name, folder, prepared=prepared, seeds=others)
    print(f"{done.path}  seed {best.seed}, {best.accuracy:.4f} on validation")
    print(f"score it once with: ddamfn eval --weights {done.path} --data {Path(args.data)} --split test --record")
