"""`ddamfn study`: the tables of the slides, each with one command, and each job of them done once."""

import argparse
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.data import KINDS
from ddamfn.cli.parser import positive_integer
from ddamfn.cli.study_progress import StudyLines, duration
from ddamfn.cli.train import assignments, choose_device
from ddamfn.errors import ConfigError, MissingExtra, UsageError

if TYPE_CHECKING:
    import torch

    from ddamfn.study import Pictures, Progress, Study
    from ddamfn.train import Run

# Written down here because asking the package itself needs PyTorch; a test holds the two together.
TABLES = ("backbones", "ddan", "heads", "attention-loss", "mixed-kernels", "coordinate-attention")
METHODS = ("ran", "scn", "dacl", "mvit", "psr", "dan", "transfer", "poster", "ddamfn")

_Build = Callable[[argparse.Namespace, "Run", "str | None"], "Study"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "study",
        help="make the tables of the slides anew",
        description="Runs whole tables: ablations, cross-validation, comparison. A study that was stopped goes on when "
        "the same command is given again; started once a GPU, with --device, it shares its jobs out. Networks are "
        "chosen by validation pictures; test pictures are scored once a job, at its end.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    complexity = verbs.add_parser("complexity", help="count the slides' parameters and FLOPs anew; needs no data")
    complexity.set_defaults(run=run_complexity)
    _add_ablation(verbs)
    _add_crossval(verbs)
    _add_comparison(verbs)


def _add_ablation(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser("ablation", help="what each part of DDAMFN is worth")
    parser.add_argument("--table", choices=TABLES, required=True, help="which part")
    _add_common(parser, seeds=3)
    parser.set_defaults(run=lambda args: _run(args, _ablation))


def _add_crossval(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "crossval",
        help="cross-validation of DDAMFN",
        description="Deals the training pictures into folds; a set's own test split stays out of it. Selection is on a "
        "part of each fold's own training pictures.",
    )
    parser.add_argument("--folds", type=positive_integer, default=10, metavar="K", help="how many (%(default)s)")
    parser.add_argument("--groups", choices=("subject",), help="keep every subject on one side")
    _add_common(parser, seeds=1)
    parser.set_defaults(run=lambda args: _run(args, _crossval))


def _add_comparison(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "comparison",
        help="DDAMFN against other methods",
        description="Trains every method on the same pictures with the same settings; only network and objective are "
        "the method's. The figures of the papers and of the slides stand beside ours, in columns of their own.",
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, metavar="NAME", help="who, beside ddamfn (default: the slides' seven)"
    )
    parser.add_argument(
        "--as-published", action="store_true", help="each paper's own recipe in place of equal conditions"
    )
    _add_common(parser, seeds=3)
    parser.set_defaults(run=lambda args: _run(args, _comparison))


def _add_common(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="a data set in its official layout, or a prepared set"
    )
    parser.add_argument("--kind", choices=KINDS, help="the data set's layout, where it is not recognised")
    parser.add_argument("--seeds", type=positive_integer, default=seeds, metavar="N", help="runs a row (%(default)s)")
    parser.add_argument(
        "--recipe", metavar="NAME", help="what all rows share (default: the authors' for this data set)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change a setting of all rows, such as phases.0.epochs=20 (JSON); may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the jobs and how long they may take; train nothing"
    )
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no job after so many minutes")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), metavar="DIR", help="of jobs (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="of the report (default: docs/studies/NAME-DATE-COMMIT)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--threads", type=positive_integer, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--ray", metavar="ADDRESS", help="run the jobs on the Ray cluster there, such as auto")
    parser.add_argument("--quiet", action="store_true", help="no lines of epochs")


def run_complexity(args: argparse.Namespace) -> int:
    """Print the slides' table of parameters and FLOPs beside what is counted here.

    Returns:
        0, or 1 if a figure does not agree.

    Raises:
        MissingExtra: if PyTorch is not installed.
    """
    _require_torch()
    from ddamfn.study.complexity import explanation, measure, table

    costs = measure()
    rows = table(costs)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    print(f"\n{explanation(costs)}")
    return 0 if all(all(cost.agrees) for cost in costs) else 1


def _ablation(args: argparse.Namespace, base: "Run", commit: str | None) -> "Study":
    from ddamfn.study import ablation

    return ablation(args.table, base, seeds=args.seeds, data=str(args.data.resolve()), commit=commit)


def _crossval(args: argparse.Namespace, base: "Run", commit: str | None) -> "Study":
    from ddamfn.study import crossval

    return crossval(
        base,
        folds=args.folds,
        grouped=args.groups == "subject",
        seeds=args.seeds,
        data=str(args.data.resolve()),
        commit=commit,
    )


def _comparison(args: argparse.Namespace, base: "Run", commit: str | None) -> "Study":
    from ddamfn.study import comparison

    return comparison(
        base,
        methods=args.methods,
        as_published=args.as_published,
        seeds=args.seeds,
        data=str(args.data.resolve()),
        commit=commit,
    )


def _run(args: argparse.Namespace, build: _Build) -> int:
    """Build a study, run what is not done of it, write its report.

    Returns:
        0, or 1 if a job failed.
    """
    _require_torch()
    import torch

    from ddamfn.study.base import base_run
    from ddamfn.train.record import commit

    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        base = base_run(args.data, args.kind, args.recipe, assignments(args.assignments))
        study = build(args, base, commit())
        if args.dry_run:
            _list_jobs(args, study, device.type)
            return 0
        pictures, progress = _run_jobs(args, study, device)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt:
        print("\nddamfn: stopped; the same command goes on", file=sys.stderr)
        raise
    _report(args, study, pictures, progress)
    return 1 if progress.failed else 0


def _run_jobs(args: argparse.Namespace, study: "Study", device: "torch.device") -> tuple["Pictures", "Progress"]:
    from ddamfn.cli.progress import Bar
    from ddamfn.study import Pictures, run_study

    with Bar(quiet=args.quiet, resumes=True) as bar:
        pictures = Pictures(args.data, device, kind=args.kind, progress=bar)
        for job in study.jobs:
            pictures.prepared(job.run.data.alignment)
    budget_s = None if args.budget is None else 60 * args.budget
    folder, lines = args.runs / study.name, StudyLines(quiet=args.quiet)
    if args.ray is None:
        return pictures, run_study(study, folder, pictures, lines, budget_s=budget_s)
    from ddamfn.study.cluster import run_on_ray

    return pictures, run_on_ray(study, folder, pictures, lines, address=args.ray, kind=args.kind, budget_s=budget_s)


def _list_jobs(args: argparse.Namespace, study: "Study", device: str) -> None:
    """Print a line a job, and what all that are not done will take."""
    from ddamfn.study.base import count_pictures
    from ddamfn.study.pace import Pace
    from ddamfn.study.results import Ledger
    from ddamfn.study.runner import LEDGER

    done = Ledger(args.runs / study.name / LEDGER).read()
    pictures = count_pictures(args.data, args.kind)
    fold = study.jobs[0].fold
    pace = Pace(device, pictures if fold is None else pictures * (fold.of - 1) // fold.of)
    known = [job for job in study.jobs if job.id in done]
    for job in known:
        pace.learn(job.run, done[job.id])
    for job in study.jobs:
        print(f"{job.id:44}  {'done' if job.id in done else duration(pace.seconds([job]))}")
    left = [job for job in study.jobs if job.id not in done]
    source = f"measured on {len(known)} finished jobs" if known else f"assumed for {device}; the first job measures it"
    print(
        f"{len(study.jobs)} jobs, {len(known)} done; about {duration(pace.seconds(left))} left, at "
        f"{pace.rate / 1e9:,.0f} GMAC/s of forward passes ({source}), on at most {pictures:,} pictures"
    )


def _report(args: argparse.Namespace, study: "Study", pictures: "Pictures", progress: "Progress") -> None:
    from ddamfn.study import Circumstances, write_report
    from ddamfn.study.base import describe
    from ddamfn.study.crossval import write_folds
    from ddamfn.train.record import commit

    date, tree = datetime.now(UTC).date().isoformat(), commit() or "no-commit"
    destination = args.output or Path("docs/studies") / f"{study.name}-{date}-{tree}"
    circumstances = Circumstances(
        command=_command(args, study), data=describe(args.data, args.kind), date=date, commit=tree
    )
    text = write_report(study, progress, args.runs / study.name, destination, circumstances)
    if study.jobs[0].fold is not None:
        write_folds(study, pictures, destination / "folds.csv")
    print(text)
    print(f"report: {destination}")
    if progress.waiting:
        print(f"ddamfn: {len(progress.waiting)} jobs wait; the same command goes on", file=sys.stderr)


def _command(args: argparse.Namespace, study: "Study") -> str:
    """The command that makes the study, with a placeholder for the folder on this machine."""
    words: list[str] = ["ddamfn", "study", study.name.partition("-")[0]]
    if "table" in args:
        words = [*words, "--table", args.table]
    if "folds" in args:
        words = [*words, "--folds", str(args.folds), *(["--groups", args.groups] if args.groups else [])]
    if "methods" in args:
        words += ["--methods", *args.methods] if args.methods else []
        words += ["--as-published"] if args.as_published else []
    words = [*words, "--data", "ROOT", "--seeds", str(args.seeds), *(["--recipe", args.recipe] if args.recipe else [])]
    for assignment in args.assignments:
        words = [*words, "--set", assignment]
    return shlex.join(words)


def _require_torch() -> None:
    """Import what training needs.

    Raises:
        MissingExtra: if a package of the extra "train" is not installed.
    """
    try:
        import ddamfn.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "A study") from error
