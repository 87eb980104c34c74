"""`ddamfn study`: the published tables, one command each; every job is done once."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from ddamfn.cli.args import add_kind, positive_integer
from ddamfn.cli.device import add_device, add_threads, choose_device, use_threads
from ddamfn.cli.io import print_table
from ddamfn.cli.progress import Bar, duration, print_study_progress
from ddamfn.cli.train import assignments
from ddamfn.errors import ConfigError, MissingExtra, UsageError
from ddamfn.study.catalog import ESTIMATORS, NETWORKS, QUEUE, TABLES

if TYPE_CHECKING:
    from ddamfn.study.images import StudyImages
    from ddamfn.study.jobs import Job, Plan, Study
    from ddamfn.study.runner import StudyOutcome
    from ddamfn.study.tables.factors import AblationOptions
    from ddamfn.train import Run

_Verbs = argparse._SubParsersAction
_WIDTH = 118
"""Characters per line of a paragraph."""


def add_parser(subparsers: "_Verbs[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "study",
        description="Runs whole tables: ablations, cross-validation, comparison. The same command resumes a study "
        "that was stopped; started once per GPU, with --device, it shares out the jobs. Networks are chosen by "
        "validation images; test images are scored once per job, at its end.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", dest="study", required=True)
    complexity = verbs.add_parser("complexity", help="count the parameters and FLOPs of the slides; needs no data")
    complexity.set_defaults(run=run_complexity)
    _add_ablation(verbs)
    _add_crossval(verbs)
    _add_comparison(verbs)
    _add_seeds(verbs)
    _add_queue(verbs)


def _add_ablation(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "ablation",
        help="what each part of DDAMFN, or each setting of a recipe, is worth",
        description="One table of the slides, or `factors`: the recipe as baseline and a row for every single change "
        "to it, scored on validation images; the test split is not opened for it.",
    )
    parser.add_argument("--table", choices=(*TABLES, "factors"), required=True, help="which one")
    _add_factors(parser)
    _add_common(parser, seeds=3)


def _add_factors(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the rows of the table of factors."""
    for option, metavar, text in (
        ("--rows", "NAME", "factors: groups or rows, not all"),
        ("--pretrained", "RUN", "factors: also a row for each of these, runs or exported weights, that begins with it"),
        ("--teachers", "RUN", "factors: also a row distilled from these, runs or exported weights"),
    ):
        parser.add_argument(option, nargs="+", default=[], metavar=metavar, help=text)


def _add_crossval(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "crossval",
        help="cross-validation of DDAMFN",
        description="Deals the training images into folds; a set's own test split stays out of it. Selection is on a "
        "part of each fold's own training images.",
    )
    parser.add_argument("--folds", type=positive_integer, default=10, metavar="K", help="how many (%(default)s)")
    parser.add_argument("--groups", choices=("subject",), help="keep every subject on one side")
    _add_common(parser, seeds=1)


def _add_comparison(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "comparison",
        help="DDAMFN against other methods",
        description="Trains every method on the same images with the same settings; only network and objective are "
        "the method's. The figures of the papers and of the slides stand beside ours, in columns of their own, and so "
        "does what the same methods reached with --as-published, once that was run too.",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=(*NETWORKS, *ESTIMATORS),
        metavar="NAME",
        help=f"beside ddamfn: {', '.join(name for name in NETWORKS if name != 'ddamfn')} (all of these by default), "
        f"and from before deep learning {', '.join(ESTIMATORS)}",
    )
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="each paper's own recipe in place of equal conditions; needs the data set itself: a prepared set has "
        "crops of one side",
    )
    _add_common(parser, seeds=3)


def _add_seeds(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "seeds",
        help="one recipe several times",
        description="Trains a recipe with several seeds and scores it on validation images; the run folders are "
        "those of ddamfn train, for ddamfn export. With --again a second round follows: every seed starts from its "
        "own network and is distilled from the networks of all seeds.",
    )
    _add_again(parser, "")
    _add_common(parser, seeds=3)


def _add_queue(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "queue",
        help="several studies one after another, within one budget of time",
        description=f"Runs {', '.join(QUEUE)} in this order: the most wanted tables first. Each is the study of its "
        "own command, in the same folders: what is done is not done again, and the same command resumes after a "
        "kill or when the budget was spent. A report is written whenever a study ends. `best` trains the recipe "
        "that weights are shipped of, and exports the seed that is best on validation.",
    )
    parser.add_argument("--studies", nargs="+", choices=QUEUE, default=list(QUEUE), metavar="NAME", help="not all")
    parser.add_argument(
        "--best", default="ddamfn_ferplus_best", metavar="RECIPE", help="of factors and best (%(default)s)"
    )
    _add_factors(parser)
    _add_again(parser, "best: ")
    _add_common(parser, seeds=3)
    parser.set_defaults(run=run_queue)


def _add_again(parser: argparse.ArgumentParser, study: str) -> None:
    parser.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"{study}train a second round, with this setting changed, such as optimizer.lr=0.001; may be repeated",
    )


def _add_common(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="ROOT", help="a data set in its official layout, or a prepared set")
    add_kind(parser)
    add("--seeds", type=positive_integer, default=seeds, metavar="N", help="runs per row (%(default)s)")
    add("--recipe", metavar="NAME", help="what all rows share (default: the authors' for this data set)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change a setting of all rows, such as phases.0.epochs=20 (JSON); may be repeated",
    )
    add(
        "--images",
        type=positive_integer,
        metavar="N",
        help="train on so many: rare classes whole, others by share",
    )
    add("--dry-run", action="store_true", help="list the jobs and how long they may take; train nothing")
    add("--budget", type=float, metavar="MINUTES", help="stop after the epoch that is being trained then")
    add("--runs", type=Path, default=Path("runs/studies"), metavar="DIR", help="of jobs (%(default)s)")
    add("--output", type=Path, metavar="DIR", help="of the report (default: docs/studies/NAME-DATE-COMMIT)")
    add_device(parser)
    add_threads(parser)
    add("--ray", metavar="ADDRESS", help="run the jobs on the Ray cluster there, such as auto; local starts one")
    add("--quiet", action="store_true", help="no lines of epochs")
    parser.set_defaults(run=run_study)


def _build(args: argparse.Namespace, base: "Run", plan: "Plan") -> "Study":
    from ddamfn.study.tables.ablations import ablation
    from ddamfn.study.tables.comparison import comparison
    from ddamfn.study.tables.crossval import crossval
    from ddamfn.study.tables.factors import factors
    from ddamfn.study.tables.seeds import seeds

    if args.study == "crossval":
        return crossval(base, plan, folds=args.folds, grouped=args.groups == "subject")
    if args.study == "comparison":
        return comparison(base, plan, methods=args.methods, as_published=args.as_published)
    if args.study == "seeds":
        return seeds(base, plan, runs=args.runs, again=assignments(args.again, "--again"))
    if args.table == "factors":
        return factors(base, plan, _options(args, base))
    if args.rows or args.pretrained or args.teachers:
        raise UsageError("--rows, --pretrained and --teachers are for --table factors")
    return ablation(args.table, base, plan)


def _options(args: argparse.Namespace, base: "Run") -> "AblationOptions":
    """Select the rows of the table of factors; a run that does not fit is refused now, not hours later."""
    from ddamfn.study.tables.factors import AblationOptions
    from ddamfn.train.initial import weights_file
    from ddamfn.train.teachers import read_teacher, require_same_preprocessing

    for place in args.pretrained:
        weights_file(place)
    for place in args.teachers:
        require_same_preprocessing(read_teacher(place), base)
    return AblationOptions(
        only=args.rows,
        pretrained=[_absolute(place) for place in args.pretrained],
        teachers=[_absolute(place) for place in args.teachers],
        one_alignment=(args.data / "prepared.json").exists(),
    )


def _absolute(place: str) -> str:
    """Return a path as every process of a study finds it; names of bundled weights stay."""
    return str(Path(place).resolve()) if Path(place).exists() else place


def run_study(args: argparse.Namespace) -> int:
    """Build a study, run its unfinished jobs, write its report; return 1 if a job failed, else 0."""
    _require_torch()
    with _usage_errors():
        study = _build(args, _base(args, args.recipe), _plan(args))
        if args.dry_run:
            _list_jobs(args, study, each=True)
            return 0
        outcome = _carry_out(args, study, _open_images(args), _seconds(args), args.output)
    return 1 if outcome.failed else 0


def run_queue(args: argparse.Namespace) -> int:
    """Run the studies in the order of `QUEUE`; return 1 if a job or a study failed, else 0."""
    _require_torch()
    from ddamfn.study import queue

    with _usage_errors():
        studies = queue.build_queue(
            args.studies,
            partial(_base, args),
            _plan(args),
            recipe=args.recipe,
            best=args.best,
            options=partial(_options, args),
            again=assignments(args.again, "--again"),
            runs=args.runs,
        )
    if args.dry_run:
        seconds = sum(_list_jobs(args, study, each=False) for study in studies.values())
        print(f"about {duration(seconds)} left in all")
        return 0
    images = _open_images(args)

    def run(name: str, study: "Study", budget_s: float | None) -> "StudyOutcome":
        outcome = _carry_out(args, study, images, budget_s, args.output and args.output / name)
        if name == "best":
            print(queue.export_best(study, outcome, images, args.runs))
        return outcome

    return 0 if queue.run_queue(studies, run, _say, _seconds(args)) else 1


def _base(args: argparse.Namespace, recipe: str | None) -> "Run":
    from ddamfn.study.jobs import base_run

    return base_run(args.data, args.kind, recipe, assignments(args.assignments))


def _plan(args: argparse.Namespace) -> "Plan":
    from ddamfn.study.jobs import Plan, identify

    return Plan(
        data=str(args.data.resolve()),
        dataset=identify(args.data, args.kind),
        seeds=args.seeds,
        images=args.images,
    )


def _open_images(args: argparse.Namespace) -> "StudyImages":
    """Open the data set on the requested device; nothing is read yet."""
    from ddamfn.study.images import StudyImages

    use_threads(args)
    return StudyImages(args.data, choose_device(args.device), kind=args.kind)


def _carry_out(
    args: argparse.Namespace, study: "Study", images: "StudyImages", budget_s: float | None, output: Path | None
) -> "StudyOutcome":
    """Run a study's unfinished jobs, and write its report."""
    from ddamfn.study import runner

    folder = args.runs / study.name
    try:
        with Bar(quiet=args.quiet, resumes=True) as bar:
            for alignment in dict.fromkeys(job.run.data.alignment for job in study.jobs):
                images.prepared(alignment, bar, bar.message)
        executor: runner.Executor = runner.LocalExecutor(folder, images)
        if args.ray is not None:
            from ddamfn.study.cluster import RayExecutor

            executor = RayExecutor(args.ray, folder, images.device.type, args.kind)
        lines = partial(print_study_progress, quiet=args.quiet)
        outcome = runner.run_study(study, folder, images, lines, executor, budget_s=budget_s)
    except KeyboardInterrupt:
        print("\nddamfn: stopped; the same command resumes the study", file=sys.stderr)
        raise
    _report(args, study, images, outcome, output)
    return outcome


def _report(
    args: argparse.Namespace, study: "Study", images: "StudyImages", outcome: "StudyOutcome", output: Path | None
) -> None:
    from ddamfn.export.card import command_line
    from ddamfn.study.jobs import describe
    from ddamfn.study.report import write_folds, write_report

    command, data = command_line(["ddamfn", *args.argv]), describe(args.data, args.kind)
    text, destination = write_report(study, outcome, args.runs / study.name, output, command=command, data=data)
    print(text)
    if study.jobs[0].fold is not None:
        write_folds(study, images, destination)
    print(f"report: {destination}")
    if outcome.waiting:
        _say(f"{len(outcome.waiting)} jobs wait; the same command resumes them")


def _list_jobs(args: argparse.Namespace, study: "Study", *, each: bool) -> float:
    """Print the estimated time of all unfinished jobs, and each job if requested."""
    from ddamfn.study.eta import EtaEstimator
    from ddamfn.study.jobs import Ledger, count_images

    device, images, fold = choose_device(args.device).type, count_images(args.data, args.kind), study.jobs[0].fold
    done = Ledger(args.runs / study.name).results
    eta = EtaEstimator(device, images if fold is None else images * (fold.of - 1) // fold.of)
    known = [job for job in study.jobs if job.id in done]
    for job in known:
        eta.observe_job(job, done[job.id])

    def state(job: "Job") -> str:
        if job.id in done:
            return "done"
        return duration(eta.seconds([job])) if job.estimator is None else "not estimated"

    if each:
        print_table([(job.id, state(job)) for job in study.jobs], numbers=True)
    seconds = eta.seconds([job for job in study.jobs if job.id not in done])
    source = f"measured on {len(known)} finished jobs" if known else f"assumed for {device}; the first job measures it"
    print(
        f"{'' if each else f'{study.name}: '}{len(study.jobs)} jobs, {len(known)} done; about {duration(seconds)} "
        f"left, at {eta.rate / 1e9:,.0f} GMAC/s of forward passes ({source}), on at most {images:,} images"
    )
    return seconds


def run_complexity(args: argparse.Namespace) -> int:
    """Print the published parameters and FLOPs beside our counts; return 1 if a figure differs, else 0."""
    _require_torch()
    from ddamfn.study.tables.complexity import cells, explanation, measure

    costs = measure()
    head, *rows = cells(costs)
    print_table(rows, head, numbers=True)
    for paragraph in explanation(costs):
        print(f"\n{fill(paragraph, _WIDTH)}")
    return 0 if all(all(cost.agrees) for cost in costs) else 1


def _require_torch() -> None:
    try:
        import ddamfn.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "A study") from error


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn an invalid setting into a command-line error."""
    try:
        yield
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _seconds(args: argparse.Namespace) -> float | None:
    return None if args.budget is None else 60 * float(args.budget)


def _say(text: str) -> None:
    print(f"ddamfn: {text}", file=sys.stderr)
