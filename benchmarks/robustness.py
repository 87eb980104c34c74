"""How robust predictions are when the same faces are blurred, dark, rotated, half covered or badly aligned.

    python benchmarks/robustness.py --data ROOT [--weights NAME_OR_PATH] [--split test] [--limit 600] [--seed 0]

ROOT is a data set in its own layout, or a prepared one. Prepared crops cannot be rotated or realigned, so rotation and
landmark jitter are skipped for them. Writes docs/benchmarks/<date>-<commit>-robustness.md, with a chart and all figures
as JSON beside it; tools/docs/refresh.py copies the newest figures of the bundled weights into MODEL_CARD.md. The exit
status is 1 if a mild level loses significantly more accuracy than is allowed.
"""

import argparse
import json
import sys
from pathlib import Path

from machine import ROOT, heading, load, result_path, write_result
from robustness_page import markdown, plot_robustness

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.cli.progress import Bar
from ddamfn.data import open_dataset
from ddamfn.errors import DdamfnError, MissingExtra
from ddamfn.evaluate.predict import check_alignment
from ddamfn.evaluate.robustness import FaceSource, faces_of_dataset, faces_of_prepared, measure_robustness
from ddamfn.evaluate.robustness_report import FAILS, Robustness
from ddamfn.preparation import load_prepared

PACKAGES = ("ddamfn", "numpy", "onnxruntime", "pillow")


def main() -> int:
    """Measure, print, write; return the exit status."""
    args = parse_arguments()
    before = load()
    classifier = Classifier(args.weights, args.num_threads)
    source = open_faces(args, classifier)
    with Bar(quiet=args.quiet) as bar:
        result = measure_robustness(classifier, source, draws=args.draws, seed=args.seed, progress=bar)
    page = result_path(args.output, "robustness")
    chart = draw(result, page.with_suffix(".png"))
    command = " ".join(["python", "benchmarks/robustness.py", *sys.argv[1:]]).replace(str(args.data), "ROOT")
    body = markdown(result, chart.name if chart else None)
    lines = heading("Robustness", command, before, *PACKAGES) + body.splitlines()
    print(body)
    print(f"written to {write_result(lines, args.output, 'robustness')}", file=sys.stderr)
    figures = {"page": page.name, **result.to_dict()}
    page.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if FAILS in result.verdicts() else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="a data set in its own layout, or prepared")
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    parser.add_argument("--split", default="test", help="split to measure on (default: test)")
    parser.add_argument("--rule", default="majority", help="how votes become a label (default: majority)")
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, chosen at random (default: all)")
    parser.add_argument("--draws", type=int, default=5, help="draws per face of mild random changes (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    parser.add_argument("--num-threads", type=int, help="of the network (default: all cores)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of page, chart and figures"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser.parse_args()


def open_faces(args: argparse.Namespace, classifier: Classifier) -> FaceSource:
    """Open a prepared set or a data set; the detector is only loaded for the latter."""
    if (args.data / "prepared.json").is_file():
        prepared = load_prepared(args.data)
        check_alignment(classifier, prepared)
        return faces_of_prepared(prepared, args.split, args.rule, limit=args.limit, seed=args.seed)
    dataset, alignment = open_dataset(args.data), alignment_of(classifier.card)
    return faces_of_dataset(dataset, args.split, args.rule, alignment, limit=args.limit, seed=args.seed)


def draw(result: Robustness, path: Path) -> Path | None:
    """Draw the chart, if matplotlib is installed."""
    rule = f", {result.rule}" if result.rule else ""
    title = f"{result.weights} on {result.title} {result.split}{rule}, N = {result.clean.n:,}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return plot_robustness(result, path, title=title)
    except MissingExtra as error:
        print(f"no chart: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DdamfnError as error:
        sys.exit(f"error: {error}")
