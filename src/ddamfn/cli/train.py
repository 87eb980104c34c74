"""`ddamfn train`: a recipe and a data set make a network."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ddamfn.cli.parser import positive_integer
from ddamfn.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress, TaskID


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "train",
        help="train a network from a recipe",
        description="Train a network. Everything goes into RUNS/NAME: settings, curves, checkpoints; --resume goes on after a kill. "
        "Selection is on validation pictures; the test split is for `ddamfn eval` alone.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe; `ddamfn train list` shows them all")
    parser.add_argument(
        "--data", type=Path, metavar="ROOT", help="a data set in its official layout, or a prepared set"
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="assignments",
                        help="change a setting, such as optimiser.lr=0.02 or seed=1 (values are JSON); may be repeated")  # fmt: skip
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--name", help="name of this run (default: recipe and seed)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--threads", type=positive_integer, help="CPU threads (default: torch's choice)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, one line an epoch")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry out `ddamfn train`."""
    try:
        import torch

        from ddamfn import train
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "Training") from error
    if args.recipe == "list":
        for name, make in train.RECIPES.items():
            print(f"{name:22} {(make.__doc__ or '').splitlines()[0]}")
        return 0
    settings = train.override(train.recipe(args.recipe), assignments(args.assignments))
    if args.data is None:
        raise UsageError("ddamfn train needs --data ROOT, a data set or a prepared set")
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = args.runs / (args.name or f"{args.recipe}-seed{settings.seed}")
    device = choose_device(args.device)
    with EpochBars(quiet=args.quiet) as bars:
        prepared = train.open_prepared(args.data, settings.data.alignment, bars.prepared)
        splits = train.load_splits(prepared, settings, device)
        outcome = train.fit(settings, *splits, folder, bars, resume=args.resume)
    draw_curves(folder)
    for name, row in (("last", outcome.last), ("best", outcome.best)):
        scores = row["valid"]
        print(
            f"{name}: epoch {row['epoch']}, validation {scores['correct']}/{scores['n']} = {scores['accuracy']:.4f} "
            f"(95 %: {scores['ci95'][0]:.4f} to {scores['ci95'][1]:.4f}), "
            f"mean class accuracy {scores['mean_class_accuracy']:.4f}"
        )
    print(f"weights: {folder / 'checkpoints' / 'best.safetensors'}")
    return 0


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Read `FIELD=VALUE` texts; a value that is no JSON is taken as a string.

    Raises:
        UsageError: if a text has no equals sign.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes FIELD=VALUE, not {text!r}")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def choose_device(name: str | None) -> "torch.device":
    """Device of that name; the first CUDA device, else the CPU, without one.

    Raises:
        UsageError: if there is no such device here.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


def draw_curves(folder: Path) -> None:
    """Draw curves.png from a run's metrics.jsonl."""
    from ddamfn.evaluate.plots import plot_training_curves

    plot_training_curves(folder / "metrics.jsonl", folder / "curves.png")


class EpochBars:
    """A progress bar an epoch on a terminal's standard error, and one line an epoch everywhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        """Nothing is shown before the first epoch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._close()

    def prepared(self, done: int, total: int) -> None:
        """Show how many pictures are detected and aligned."""
        if done < total and self._bar is None:
            self._open("aligning faces", total)
        self._update(done)
        if done == total:
            self._close()

    def epoch_started(self, epoch: int, epochs: int, pictures: int, side_px: int) -> None:
        """Open an epoch's bar."""
        self._open(f"epoch {epoch}/{epochs}, {side_px} px", pictures)
        self._done = 0

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Move the bar."""
        self._done += pictures
        text = "" if loss is None or accuracy is None else f"loss {loss:.3f}  accuracy {accuracy:.3f}"
        self._update(self._done, text)

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Print the epoch's line."""
        self._close()
        heads = " ".join(f"{mean:.2f}" for mean in row["head_means"])
        print(
            f"epoch {row['epoch']:3d}  {row['side_px']} px  lr {row['lr']:.2e}  loss {row['train']['loss']:.3f}  "
            f"train {row['train']['accuracy']:.4f}  valid {row['valid']['accuracy']:.4f}  heads {heads}  "
            f"{row['pictures_per_second']:.0f}/s",
            file=sys.stderr,
            flush=True,
        )

    def _open(self, title: str, total: int) -> None:
        self._close()
        if not self._live:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar = bar, bar.add_task(title, total=total, note="", rate="")
        bar.start()

    def _update(self, done: int, note: str = "") -> None:
        if self._bar is not None:
            bar, task = self._bar
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, note=note, rate=f"{speed:.0f}/s" if speed else "")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None
