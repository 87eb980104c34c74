"""How `ddamfn study` carries a table out: build it, list it or run it, write its report."""

import argparse
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.device import choose_device, use_threads
from ddamfn.cli.progress import StudyLines, duration
from ddamfn.cli.train import assignments
from ddamfn.errors import ConfigError, MissingExtra, UsageError

if TYPE_CHECKING:
    from ddamfn.study import Job, Plan, Progress, Study, StudyImages
    from ddamfn.train import Run

Build = Callable[[argparse.Namespace, "Run", "Plan"], "Study"]


def ablation(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    """One of the slides' tables."""
    from ddamfn import study

    if args.rows or args.pretrained or args.teachers:
        raise UsageError("--rows, --pretrained and --teachers are for --table factors")
    return study.ablation(args.table, base, plan)


def factors(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    """The table of factors."""
    from ddamfn import study
    from ddamfn.train.initial import weights_file
    from ddamfn.train.teachers import read_teacher, require_same_preprocessing

    # What does not fit is known now, not hours later when its row begins.
    for place in args.pretrained:
        weights_file(place)
    for place in args.teachers:
        require_same_preprocessing(read_teacher(place), base)
    given = study.AblationOptions(
        only=args.rows,
        pretrained=[_absolute(place) for place in args.pretrained],
        teachers=[_absolute(place) for place in args.teachers],
        one_alignment=(args.data / "prepared.json").exists(),
    )
    return study.factors(base, plan, given)


def _absolute(place: str) -> str:
    """A path as every process of a study finds it; names of bundled weights stay."""
    return str(Path(place).resolve()) if Path(place).exists() else place


def crossval(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    """The cross-validation."""
    from ddamfn import study

    return study.crossval(base, plan, folds=args.folds, grouped=args.groups == "subject")


def comparison(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    """The comparison with other methods."""
    from ddamfn import study

    return study.comparison(base, plan, methods=args.methods, as_published=args.as_published)


def seeds(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    """One recipe several times, in one round or two."""
    from ddamfn import study

    return study.seeds(base, plan, runs=args.runs, again=assignments(args.again, "--again"))


def build_study(args: argparse.Namespace, build: Build) -> "Study":
    """The study that a command line asks for.

    Raises:
        UsageError: if a setting, a row or a method does not fit.
        DataError: if there is no data set.
    """
    from ddamfn.study import Plan
    from ddamfn.study.jobs import base_run
    from ddamfn.train.run_folder import commit

    plan = Plan(data=str(args.data.resolve()), seeds=args.seeds, images=args.images, commit=commit())
    try:
        return build(args, base_run(args.data, args.kind, args.recipe, assignments(args.assignments)), plan)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def run_one(args: argparse.Namespace, build: Build) -> int:
    """Build a study, run what is not done of it, write its report.

    Returns:
        0, or 1 if a job failed.
    """
    require_torch()
    study = build_study(args, build)
    if args.dry_run:
        list_jobs(args, study)
        return 0
    progress = carry_out(args, study, open_images(args), args.budget)
    return 1 if progress.failed else 0


def open_images(args: argparse.Namespace) -> "StudyImages":
    """The data set on the device that is asked for; nothing is read yet."""
    from ddamfn.study import StudyImages

    use_threads(args)
    return StudyImages(args.data, choose_device(args.device), kind=args.kind)


def carry_out(args: argparse.Namespace, study: "Study", images: "StudyImages", minutes: float | None) -> "Progress":
    """Run what is not done of a study within so many minutes, and write its report.

    Raises:
        UsageError: if a setting does not fit the data.
        DdamfnError: if the study cannot go on.
    """
    from ddamfn.cli.progress import Bar
    from ddamfn.study import run_study

    budget_s = None if minutes is None else 60 * minutes
    folder, lines = args.runs / study.name, StudyLines(quiet=args.quiet)
    try:
        with Bar(quiet=args.quiet, resumes=True) as bar:
            for alignment in dict.fromkeys(job.run.data.alignment for job in study.jobs):
                images.prepared(alignment, bar)
        if args.ray is None:
            progress = run_study(study, folder, images, lines, budget_s=budget_s)
        else:
            from ddamfn.study.cluster import run_on_ray

            progress = run_on_ray(study, folder, images, lines, address=args.ray, kind=args.kind, budget_s=budget_s)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt:
        print("\nddamfn: stopped; the same command goes on", file=sys.stderr)
        raise
    _report(args, study, images, progress)
    return progress


def list_jobs(args: argparse.Namespace, study: "Study", *, each: bool = True) -> float:
    """Print a line a job, unless `each` is false, and what all that are not done will take.

    Returns:
        Seconds that are left.
    """
    from ddamfn.study.jobs import LEDGER, Ledger, count_images
    from ddamfn.study.runner import EtaEstimator

    device = choose_device(args.device).type
    done = Ledger(args.runs / study.name / LEDGER).read()
    images = count_images(args.data, args.kind)
    fold = study.jobs[0].fold
    pace = EtaEstimator(device, images if fold is None else images * (fold.of - 1) // fold.of)
    known = [job for job in study.jobs if job.id in done]
    for job in known:
        pace.learn(job, done[job.id])
    for job in study.jobs if each else ():
        print(f"{job.id:44}  {'done' if job.id in done else _time(job, pace.seconds([job]))}")
    left = [job for job in study.jobs if job.id not in done]
    source = f"measured on {len(known)} finished jobs" if known else f"assumed for {device}; the first job measures it"
    name = "" if each else f"{study.name}: "
    print(
        f"{name}{len(study.jobs)} jobs, {len(known)} done; about {duration(pace.seconds(left))} left, at "
        f"{pace.rate / 1e9:,.0f} GMAC/s of forward passes ({source}), on at most {images:,} images"
    )
    return pace.seconds(left)


def _time(job: "Job", seconds: float) -> str:
    return duration(seconds) if job.estimator is None else "not estimated"


def _report(args: argparse.Namespace, study: "Study", images: "StudyImages", progress: "Progress") -> None:
    from ddamfn.study import ReportMetadata, write_report
    from ddamfn.study.jobs import describe
    from ddamfn.study.tables.crossval import write_folds
    from ddamfn.train.run_folder import commit

    date, tree = datetime.now(UTC).date().isoformat(), commit() or "no-commit"
    destination = args.output or Path("docs/studies") / f"{study.name}-{date}-{tree}"
    circumstances = ReportMetadata(
        command=_command(args, study), data=describe(args.data, args.kind), date=date, commit=tree
    )
    text = write_report(study, progress, args.runs / study.name, destination, circumstances)
    if study.jobs[0].fold is not None:
        write_folds(study, images, destination / "folds.csv")
    print(text)
    print(f"report: {destination}")
    if progress.waiting:
        print(f"ddamfn: {len(progress.waiting)} jobs wait; the same command goes on", file=sys.stderr)


def _command(args: argparse.Namespace, study: "Study") -> str:
    """The command that makes the study, with a placeholder for the folder on this machine."""
    words: list[str] = ["ddamfn", "study", study.name.partition("-")[0]]
    words += ["--table", args.table] if "table" in args else []
    words += ["--folds", str(args.folds)] if "folds" in args else []
    words += ["--groups", args.groups] if "groups" in args and args.groups else []
    words += ["--methods", *args.methods] if "methods" in args and args.methods else []
    words += ["--as-published"] if "as_published" in args and args.as_published else []
    if "rows" in args:
        words += ["--rows", *args.rows] if args.rows else []
        words += ["--pretrained", *(Path(run).name for run in args.pretrained)] if args.pretrained else []
        words += ["--teachers", *(Path(run).name for run in args.teachers)] if args.teachers else []
    words += ["--data", "ROOT", "--seeds", str(args.seeds)]
    words += ["--recipe", args.recipe] if args.recipe else []
    words += ["--images", str(args.images)] if args.images else []
    for assignment in args.assignments:
        words += ["--set", assignment]
    for assignment in getattr(args, "again", []):
        words += ["--again", assignment]
    return shlex.join(words)


def require_torch() -> None:
    """Import what training needs.

    Raises:
        MissingExtra: if a package of the extra "train" is not installed.
    """
    try:
        import ddamfn.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "A study") from error
