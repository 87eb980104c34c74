"""`ddamfn export`: a training run, or existing weights, to files of a chosen format with a card."""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.device import add_threads, use_threads
from ddamfn.cli.progress import Bar
from ddamfn.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from ddamfn.export.gates import Exported
    from ddamfn.faces import Alignment
    from ddamfn.preparation import Prepared

_EPILOG = """\
Nothing is written unless it passes its gate, measured beside the float32 ONNX file on all validation faces of --data,
or on 1,000 synthetic faces without it, and kept on the card:
  onnx, safetensors, hub-folder  every prediction the same, outputs within 0.0001
  openvino                       every prediction the same, outputs within 0.001
                                 (logits in units of the face's largest, where that is above 1)
  onnx-int8                      98 % of the predictions the same, at most 0.5 points less accuracy on validation
--force keeps a file all the same, and its card records that. OpenVINO files are for OpenVINO's own runtime; the others
can be read back: .onnx by ddamfn predict, safetensors and hub folders by ddamfn.create_model(..., weights=PATH).
Beside a training on the same cores use --num-threads 1: threads that wait for a busy core wait for each other.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    from ddamfn.weights import WEIGHT_FORMATS, WEIGHT_PRECISIONS

    parser = subparsers.add_parser(
        "export",
        description="Writes weights and their card from a training run, or from other weights, once their predictions "
        "match the original's. With --data a run's confidence is calibrated on validation faces.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="a run's folder, such as runs/NAME; bundled weights; or a path"
    )
    parser.add_argument("--format", choices=WEIGHT_FORMATS, default="onnx", help="what to write (default: onnx)")
    parser.add_argument("--name", help="name of the new weights (default: that of the old ones, with the format)")
    parser.add_argument("--output", metavar="DIR", default=".", help="where to write (default: here)")
    parser.add_argument("--data", metavar="ROOT", help="the data set that the run was trained on, or it prepared")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="of a run (default: best)")
    parser.add_argument(
        "--precision",
        choices=WEIGHT_PRECISIONS,
        default="float32",
        help="of the stored weights, for the format onnx; float16 halves the file (default: float32)",
    )
    parser.add_argument(
        "--logit-adjustment",
        type=_tau,
        default=0.0,
        metavar="TAU",
        help="of a run: predict rare classes more often by this much, 0 to 1; `fit` takes the highest mean class "
        "accuracy on validation that costs no accuracy; needs --data (default: 0)",
    )
    parser.add_argument(
        "--stretch",
        choices=("on", "off"),
        help="of finished weights: stretch the gray levels of dark and flat faces before the network, or leave them; "
        "confidence is fitted again, which needs --data (a run has its setting data.preprocessing.stretch)",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        default=[],
        metavar="RUN",
        help="of a run: the same recipe with other seeds; the card then lists their validation results",
    )
    parser.add_argument("--force", action="store_true", help="keep a file that falls under its gate")
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=run)


def _tau(text: str) -> "float | str":
    if text == "fit":
        return text
    try:
        tau = float(text)
    except ValueError:
        tau = -1.0
    if not 0 <= tau <= 1:
        raise argparse.ArgumentTypeError(f"must be `fit` or a number from 0 to 1, not {text!r}")
    return tau


def run(args: argparse.Namespace) -> int:
    """Export, and print what the gate measured."""
    try:
        import onnxscript  # noqa: F401 - torch imports it only when it exports, minutes into the work
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "Exporting") from error
    if args.precision != "float32" and args.format != "onnx":
        raise UsageError("--precision is for --format onnx; the other formats store float32, and onnx-int8 integers")
    use_threads(args)
    source = Path(args.weights)
    if source.is_dir() and (source / "metrics.jsonl").is_file():
        if args.stretch is not None:
            raise UsageError("--stretch is for finished weights; a run was trained with its data.preprocessing.stretch")
        _export_run(args, source)
    elif args.logit_adjustment != 0:
        raise UsageError("--logit-adjustment is for a run's folder; finished weights keep their predictions")
    elif args.seeds:
        raise UsageError("--seeds is for a run's folder; finished weights have their card")
    else:
        _convert(args, args.weights, args.name)
    return 0


def _export_run(args: argparse.Namespace, folder: Path) -> None:
    """Export a run as ONNX, and convert that to another format if asked for."""
    from ddamfn.export.weights import export_run
    from ddamfn.train.run_folder import read_run

    finished, seeds = read_run(folder, args.checkpoint), [read_run(one, args.checkpoint) for one in args.seeds]
    prepared = _prepared(args, finished.run.data.alignment)
    name = args.name or folder.resolve().name
    as_onnx = args.format == "onnx"
    _announce(args)
    with tempfile.TemporaryDirectory() as scratch:
        done = export_run(
            finished,
            name,
            args.output if as_onnx else scratch,
            precision=args.precision,
            prepared=prepared,
            adjustment=args.logit_adjustment,
            seeds=seeds,
            argv=["ddamfn", *args.argv],
        )
        if as_onnx:
            _tell(done, args.format)
        else:
            _convert(args, str(done.path), args.name or f"{name}-{args.format.removeprefix('onnx-')}")


def _convert(args: argparse.Namespace, weights: str, name: str | None) -> None:
    from ddamfn.classifier import alignment_of, preprocessing_of
    from ddamfn.export.formats import convert, open_source
    from ddamfn.faces import Stretch

    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(weights, Path(scratch))
        prepared = _prepared(args, alignment_of(source.card))
        preprocessing = None
        if args.stretch is not None:
            stretch = Stretch() if args.stretch == "on" else None
            preprocessing = replace(preprocessing_of(source.card), stretch=stretch)
        _announce(args)
        done = convert(
            source,
            args.format,
            args.output,
            name=name,
            prepared=prepared,
            precision=args.precision,
            preprocessing=preprocessing,
            force=args.force,
            argv=["ddamfn", *args.argv],
        )
    _tell(done, args.format)


def _prepared(args: argparse.Namespace, alignment: "Alignment") -> "Prepared | None":
    if args.data is None:
        return None
    from ddamfn.train import open_prepared

    with Bar(quiet=args.quiet, resumes=True) as bar:
        return open_prepared(Path(args.data), alignment, bar, tell=bar.message)


def _announce(args: argparse.Namespace) -> None:
    """Say what the next minutes are spent on."""
    from ddamfn.export.gates import LEAST_FACES

    if not args.quiet:
        faces = f"{LEAST_FACES:,} faces, drawn ones where the data has fewer"
        print(f"ddamfn: exporting, and comparing the file with PyTorch on {faces}: a minute or two", file=sys.stderr)


def _tell(done: "Exported", kind: str) -> None:
    """Print the file, what its gate measured, and what the card records."""
    measured, training, calibration = done.comparison, done.card.training, done.card.calibration
    files = [done.path] if done.path.is_file() else sorted(done.path.iterdir())
    files += [done.path.with_suffix(".bin")] if kind == "openvino" else []
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{done.path}  {size:.2f} MB, {kind}, {done.card.precision}, temperature {done.card.temperature:.3f}")
    stored = "" if measured.exactness is None else f", from PyTorch with the stored weights {measured.exactness:.1e}"
    print(
        f"gate {'NOT passed' if measured.failures else 'passed'} on {measured.faces}: {measured.agreement:.2%} of the "
        f"predictions the same; largest difference of a logit {measured.logit_difference:.1e}, of attention "
        f"{measured.attention_difference:.1e}{stored}"
    )
    for failure in measured.failures:
        print(f"kept by --force although {failure}")
    if measured.accuracy_change is not None:
        print(
            f"accuracy on {measured.validation:,} validation images {measured.accuracy_before:.2%} before, "
            f"{measured.accuracy_after:.2%} after ({measured.accuracy_change:+.2f} points)"
        )
    if measured.speed is not None:
        print(
            f"{measured.ms_per_face:.1f} ms per face on one thread, the float32 ONNX file in turns with it "
            f"{measured.ms_per_face_before:.1f} ms: {measured.speed:.2f} times as fast"
        )
    if "logit_adjustment" in training:
        adjusted, after = training["logit_adjustment"], training["validation"]
        before = adjusted["validation_before"]
        print(
            f"logits adjusted with tau {adjusted['tau']:g}: {before['correct']:,} and now {after['correct']:,} of "
            f"{after['n']:,} validation images correct, mean class accuracy {before['mean_class_accuracy']:.2%} and "
            f"now {after['mean_class_accuracy']:.2%}"
        )
    if "seeds" in training:
        seeds = training["seeds"]
        each = ", ".join(f"{run['correct']:,} (seed {run['seed']})" for run in seeds["runs"])
        print(f"validation, by seed: {each}; {seeds['mean']:.2%}, deviation {seeds['deviation']:.2%}")
    if calibration is not None:
        print(
            f"calibration error on {calibration['n']:,} validation images {calibration['ece_before']:.2%} before the "
            f"temperature, {calibration['ece_after']:.2%} with it"
        )
    if not done.card.scores:
        print(f"score it with: ddamfn eval --weights {done.path} --data ROOT --split test --record")
