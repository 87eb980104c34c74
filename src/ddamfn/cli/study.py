"""`ddamfn study`: the tables of the slides, each with one command, and each job of them done once."""

import argparse
from pathlib import Path

from ddamfn.cli.args import add_kind, positive_integer
from ddamfn.cli.device import add_device, add_threads
from ddamfn.cli.study_queue import QUEUE, run_queue
from ddamfn.cli.study_run import ablation, comparison, crossval, factors, require_torch, run_one, seeds

# Written down here because asking the package itself needs PyTorch; a test holds the two together.
TABLES = ("backbones", "ddan", "heads", "attention-loss", "mixed-kernels", "coordinate-attention")
METHODS = ("ran", "scn", "dacl", "mvit", "psr", "dan", "transfer", "poster", "ddamfn")
ESTIMATORS = ("lbp", "nmf", "sparse")

_Verbs = argparse._SubParsersAction


def add_parser(subparsers: "_Verbs[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "study",
        description="Runs whole tables: ablations, cross-validation, comparison. A study that was stopped goes on when "
        "the same command is given again; started once a GPU, with --device, it shares its jobs out. Networks are "
        "chosen by validation images; test images are scored once a job, at its end.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    complexity = verbs.add_parser("complexity", help="count the slides' parameters and FLOPs anew; needs no data")
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
    parser.set_defaults(run=lambda args: run_one(args, factors if args.table == "factors" else ablation))


def _add_factors(parser: argparse.ArgumentParser) -> None:
    """Add what decides the rows of the table of factors."""
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="factors: groups or rows, not all")
    parser.add_argument(
        "--pretrained",
        nargs="+",
        default=[],
        metavar="RUN",
        help="factors: also a row for each of these, runs or exported weights, that begins with it",
    )
    parser.add_argument(
        "--teachers",
        nargs="+",
        default=[],
        metavar="RUN",
        help="factors: also a row taught by these, runs or exported weights",
    )


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
    parser.set_defaults(run=lambda args: run_one(args, crossval))


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
        choices=(*METHODS, *ESTIMATORS),
        metavar="NAME",
        help=f"who, beside ddamfn: {', '.join(METHODS[:-1])} (all of these by default), and before deep learning "
        f"{', '.join(ESTIMATORS)}",
    )
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="each paper's own recipe in place of equal conditions; needs the data set itself: a prepared set has "
        "crops of one side",
    )
    _add_common(parser, seeds=3)
    parser.set_defaults(run=lambda args: run_one(args, comparison))


def _add_seeds(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "seeds",
        help="one recipe several times",
        description="Trains a recipe with several seeds and scores it on validation images; the run folders are "
        "those of ddamfn train, for ddamfn export. With --again a second round follows: every seed goes on from its "
        "own network and learns the mean answer of all of them.",
    )
    _add_again(parser, "")
    _add_common(parser, seeds=3)
    parser.set_defaults(run=lambda args: run_one(args, seeds))


def _add_queue(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "queue",
        help="several studies one after another, within one budget of time",
        description=f"Runs {', '.join(QUEUE)} in this order: the most wanted tables first. Each is the study of the "
        "command of its own, in the same folders: what is done is not done again, and the same command goes on after "
        "a kill or when the budget was spent. A report is written whenever a study ends. `best` trains the recipe "
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
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="a data set in its official layout, or a prepared set"
    )
    add_kind(parser)
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
        "--images", type=positive_integer, metavar="N", help="train on so many, every class with its share"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the jobs and how long they may take; train nothing"
    )
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="stop after the epoch that is being trained then"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), metavar="DIR", help="of jobs (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="of the report (default: docs/studies/NAME-DATE-COMMIT)"
    )
    add_device(parser)
    add_threads(parser)
    parser.add_argument("--ray", metavar="ADDRESS", help="run the jobs on the Ray cluster there, such as auto")
    parser.add_argument("--quiet", action="store_true", help="no lines of epochs")


def run_complexity(args: argparse.Namespace) -> int:
    """Print the slides' table of parameters and FLOPs beside what is counted here.

    Returns:
        0, or 1 if a figure does not agree.

    Raises:
        MissingExtra: if PyTorch is not installed.
    """
    require_torch()
    from ddamfn.study.tables.complexity import explanation, measure, table

    costs = measure()
    rows = table(costs)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    print(f"\n{explanation(costs)}")
    return 0 if all(all(cost.agrees) for cost in costs) else 1
