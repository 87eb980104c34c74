"""`ddamfn train`: train a network from a recipe and a data set."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddamfn.cli.args import add_kind
from ddamfn.cli.device import add_device, add_threads, choose_device, use_threads
from ddamfn.cli.io import plain
from ddamfn.errors import ConfigError, DdamfnError, MissingExtra, UsageError

if TYPE_CHECKING:
    from ddamfn.preparation import Prepared
    from ddamfn.train import FitResult, Run

_MOST_NAMES = 5
"""Number of unreadable images that are listed; the manifest has all."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "train",
        description="Trains a network. Everything goes into RUNS/NAME: settings, curves, checkpoints; --resume goes on "
        "after a stop or a kill. Selection is on validation images; the test split is for ddamfn eval alone.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe; `ddamfn train list` shows them all")
    parser.add_argument(
        "--data", type=Path, metavar="ROOT", help="a data set in its official layout, or a prepared set"
    )
    add_kind(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change a setting, such as optimizer.lr=0.02, phases.0.epochs=5 or seed=1 (JSON); may be repeated",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs (runs)")
    parser.add_argument("--name", help="name of this run (default: recipe and seed)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    add_device(parser)
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, one line an epoch")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, and print the validation results."""
    try:
        from ddamfn import train
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "Training") from error
    if args.recipe == "list":
        for name, make in train.RECIPES.items():
            print(f"{name:22} {(make.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        settings = train.override(train.recipe(args.recipe), assignments(args.assignments))
        folder = args.runs / run_name(args.name, settings)
        if args.data is None:
            raise UsageError("ddamfn train needs --data ROOT, a data set or a prepared set")
        use_threads(args)
        result = _train(args, settings, folder)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt:
        print("\nddamfn: stopped; the same command with --resume goes on", file=sys.stderr)
        raise
    _print_result(result)
    return 0


def _train(args: argparse.Namespace, settings: "Run", folder: Path) -> "FitResult":
    """Prepare the data, train, draw the curves."""
    from ddamfn import train
    from ddamfn.cli.progress import Bar, EpochBars

    device = choose_device(args.device)
    with Bar(quiet=args.quiet, resumes=True) as bar:
        prepared = train.open_prepared(args.data, settings.data.alignment, bar, kind=args.kind, tell=bar.message)
    _report_prepared(prepared)
    if train.is_pretext(settings):
        with Bar(quiet=args.quiet, resumes=True) as bar:
            images, valid = train.load_faces(prepared, settings, device, bar), None
        summary = f"{len(images):,} images to learn from without labels ({images.origin})"
    else:
        images, valid = train.load_splits(prepared, settings, device)
        summary = (
            f"{len(images):,} images to train on, {len(valid):,} to select on ({valid.origin}); "
            f"{len(images.classes)} classes"
        )
    if not args.quiet:
        print(f"ddamfn: {summary}, on {device}", file=sys.stderr)
    with EpochBars(quiet=args.quiet, draw=lambda: draw_curves(folder)) as bars:
        result = train.fit(settings, images, valid, folder, bars, resume=args.resume, argv=["ddamfn", *args.argv])
    draw_curves(folder)
    return result


def assignments(texts: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Parse an option's `FIELD=VALUE` texts; a value that is not JSON is a string."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes FIELD=VALUE, not {text!r}")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def run_name(name: str | None, settings: "Run") -> str:
    """Return the name of the run's folder, by default of recipe and seed; raise UsageError for a path."""
    if name is None:
        return f"{settings.recipe}-seed{settings.seed}"
    if not name.strip(". ") or Path(name).name != name:
        raise UsageError(f"--name {name!r} is no folder's name; --runs takes the folder around it")
    return name


def draw_curves(folder: Path) -> None:
    """Draw curves.png from a run's metrics.jsonl; a failure does not stop the run."""
    try:
        from ddamfn.evaluate.plots import plot_training_curves

        plot_training_curves(folder / "metrics.jsonl", folder / "curves.png", title=folder.name)
    except (DdamfnError, OSError) as error:
        print(f"ddamfn: curves.png is not drawn: {error}", file=sys.stderr)


def _report_prepared(prepared: "Prepared") -> None:
    """Report on standard error how many images have no face or cannot be read, and list some of the latter."""
    total, resized, unreadable = (
        sum(counts[what] for counts in prepared.counts.values()) for what in ("images", "resized", "unreadable")
    )
    if resized:
        print(f"ddamfn: no face found in {resized:,} of {total:,} images; they are used whole", file=sys.stderr)
    if unreadable:
        print(f"ddamfn: {unreadable:,} of {total:,} images cannot be read and are left out:", file=sys.stderr)
        bad = [row for row in prepared.manifest() if row.outcome.error]
        for row in bad[:_MOST_NAMES]:
            print(f"ddamfn:   {plain(f'{row.key}: {row.outcome.error}')}", file=sys.stderr)
        if len(bad) > _MOST_NAMES:
            print(f"ddamfn:   and more; see {prepared.folder / 'manifest.csv'}", file=sys.stderr)


def _print_result(result: "FitResult") -> None:
    trunk = result.folder / "checkpoints" / "trunk.safetensors"
    if "valid" not in result.last:
        print(f"trunk: {trunk}\nbegin a run with it: ddamfn train RECIPE --data ROOT --set initial={result.folder}")
        return
    for name, row in (("last", result.last), ("best", result.best)):
        scores = row["valid"]
        print(
            f"{name}: epoch {row['epoch']}, validation {scores['correct']}/{scores['n']} = {scores['accuracy']:.4f} "
            f"(95 %: {scores['ci95'][0]:.4f} to {scores['ci95'][1]:.4f}), "
            f"mean class accuracy {scores['mean_class_accuracy']:.4f}"
        )
    print(f"weights: {result.folder / 'checkpoints' / 'best.safetensors'}")
