"""`ddamfn export`: the network of a training run becomes an ONNX file and its card."""

import argparse

from ddamfn.cli.progress import Bar
from ddamfn.errors import MissingExtra


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="turn a training run into weights for ddamfn predict",
        description="Writes NAME.onnx and its card NAME.json from a run, once the file has been checked to say what "
        "the trained network says. With --data it is checked, and its confidence calibrated, on validation faces.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a training run, such as runs/NAME")
    parser.add_argument("--name", required=True, help="name of the weights")
    parser.add_argument("--output", metavar="DIR", default=".", help="where to write (default: here)")
    parser.add_argument("--data", metavar="ROOT", help="the data set that the run was trained on, or it prepared")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="of the run (default: best)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored weights; float16 halves the file (default: float32)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and print what the gate measured.

    Returns:
        0.

    Raises:
        MissingExtra: if PyTorch or an ONNX package is not installed.
        DdamfnError: if the run, the data or the output cannot be used, or the file fails its gate.
    """
    try:
        import onnxscript  # noqa: F401 - torch imports it only when it exports, minutes into the work

        from ddamfn.export.weights import export_run
        from ddamfn.train import open_prepared
        from ddamfn.train.finished import read_run
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "Exporting") from error
    from pathlib import Path

    finished = read_run(args.run_dir, args.checkpoint)
    prepared = None
    if args.data is not None:
        with Bar(quiet=args.quiet, resumes=True) as bar:
            prepared = open_prepared(Path(args.data), finished.run.data.alignment, bar)
    done = export_run(finished, args.name, args.output, precision=args.precision, prepared=prepared)
    parity, size = done.parity, done.path.stat().st_size
    print(f"{done.path}  {size / 1e6:.2f} MB, {parity.precision}, temperature {done.card.temperature:.3f}")
    print(
        f"gate passed on {done.faces}: same answers; largest difference of a logit {parity.logit_difference:.1e}, of "
        f"attention {parity.attention_difference:.1e}, from PyTorch with the stored weights {parity.exactness:.1e}"
    )
    calibration = done.card.calibration
    if calibration is not None:
        print(
            f"calibration error on {calibration['n']:,} validation pictures {calibration['ece_before']:.2%} before the "
            f"temperature, {calibration['ece_after']:.2%} with it"
        )
    print(f"score it with: ddamfn eval --weights {done.path} --data ROOT --split test --record")
    return 0
