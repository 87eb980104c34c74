"""`ddamfn eval`: score weights on a split of a data set."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.args import positive_integer
from ddamfn.cli.data import KINDS, RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddamfn.classifier import Classifier
    from ddamfn.cli.progress import Bar
    from ddamfn.data import Dataset
    from ddamfn.evaluate.logit_table import LogitTable
    from ddamfn.evaluate.report import Report


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "eval",
        help="score weights on a data set",
        description="Scores weights on a split of a data set: accuracy with n, N and the rule, per class, calibration.",
    )
    parser.add_argument("--weights", metavar="NAME_OR_PATH", help="bundled weights or an .onnx file")
    parser.add_argument("--data", metavar="ROOT", required=True, help="a data set in its own layout, or prepared")
    parser.add_argument("--split", default="test", help="split to score (default: test)")
    parser.add_argument(
        "--rule",
        nargs="+",
        choices=RULES,
        default=["majority"],
        metavar="RULE",
        help=f"how votes become a label, one report each: {', '.join(RULES)} (default: majority)",
    )
    parser.add_argument("--kind", choices=KINDS, help="the data set's layout, where it is not recognized")
    parser.add_argument(
        "--duplicate-free",
        action="store_true",
        help="score also without images that stand in train, exactly or nearly (always done for FERPlus)",
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        help="report, apart, also what averaging with the mirrored face scores (predict does not do this)",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="of the report; json of several rules is a list (default: table)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="write scores.json, predictions.csv and plots there, of several rules each into a folder of its own",
    )
    parser.add_argument("--record", action="store_true", help="also write the scores into the weights' card")
    parser.add_argument(
        "--workers", type=positive_integer, metavar="N", help="threads that detect (default: all cores)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, print, write.

    Returns:
        0, or 1 if images could not be read and are therefore missing from the score.

    Raises:
        DdamfnError: if the weights, the data set or the output cannot be used.
    """
    from ddamfn.classifier import Classifier
    from ddamfn.cli.progress import Bar
    from ddamfn.evaluate.report import Report

    classifier = Classifier(args.weights)
    with Bar(quiet=args.quiet) as bar:
        tables, dataset = _predict(classifier, args, bar)
    name, card = classifier.card.name, classifier.card
    duplicates = _duplicates_in_train(tables, dataset, args)
    reports = [Report(name, table, None if duplicates is None else table.without(duplicates), card) for table in tables]
    if args.format == "json":
        scores = [report.to_dict() for report in reports]
        print(json.dumps(scores[0] if len(scores) == 1 else scores, indent=2))
    else:
        print("\n".join(report.text() for report in reports), end="")
    if args.output is not None:
        for report in reports:
            _write(report, Path(args.output) / (report.rule if len(reports) > 1 else ""))
    if args.record:
        for report in reports:
            _record(report, args.weights)
    return 1 if any(table.unreadable for table in tables) else 0


def _predict(
    classifier: "Classifier", args: argparse.Namespace, bar: "Bar"
) -> "tuple[Sequence[LogitTable], Dataset | None]":
    """Fill a table a rule; also return the data set if its images are at hand, for a search of duplicates."""
    from ddamfn.data.opening import open_dataset
    from ddamfn.evaluate.predict import predict_prepared_rules, predict_rules
    from ddamfn.preparation import load_prepared
    from ddamfn.preparation.prepared import CARD_NAME

    # A rule that is named twice is meant once; without votes every rule is the same.
    rules, flip = list(dict.fromkeys(args.rule)), args.flip
    if (Path(args.data) / CARD_NAME).is_file():
        prepared = load_prepared(args.data)
        rules = rules if prepared.votes else rules[:1]
        return predict_prepared_rules(classifier, prepared, args.split, rules, mirrored=flip, progress=bar), None
    dataset = open_dataset(args.data, args.kind)
    rules, workers = rules if dataset.card.votes else rules[:1], args.workers
    tables = predict_rules(classifier, dataset, args.split, rules, mirrored=flip, workers=workers, progress=bar)
    return tables, dataset


def _duplicates_in_train(
    tables: "Sequence[LogitTable]", dataset: "Dataset | None", args: argparse.Namespace
) -> set[str] | None:
    """Names of images that also stand in train: by the shipped list, or by a search if asked for; else None."""
    from ddamfn.data.duplicates import DUPLICATE_KINDS, duplicates, known_duplicates
    from ddamfn.errors import UsageError

    # The list names images of the official split; another copy may use the same names for other images.
    listed = known_duplicates(tables[0].dataset, DUPLICATE_KINDS) if any(table.official for table in tables) else set()
    if listed:
        return set(listed)
    if not args.duplicate_free:
        return None
    if dataset is None:
        raise UsageError("--duplicate-free compares the images themselves: give the data set, not a prepared one")
    return set(duplicates(dataset, near=True, workers=args.workers))


def _record(report: "Report", weights: str | None) -> None:
    """Put the scores on the weights' card, in place of older ones of the same data set, split and rule."""
    from datetime import UTC, datetime

    from ddamfn.weights import find_weights, write_card

    network, card = find_weights(weights)
    score = {"date": datetime.now(UTC).date().isoformat(), **report.to_dict()}
    # What the card itself says elsewhere, or what is empty, is left out.
    optional = ("unanswerable_classes", "unasked_labels", "unreadable", "abstention", "flip_averaged")
    for name in ("weights", "temperature", *optional):
        if not score[name] or name in ("weights", "temperature"):
            del score[name]
    write_card(card.with_score(score), network.with_name(f"{network.stem}.json"))


def _write(report: "Report", folder: Path) -> None:
    """Write scores, answers and, where matplotlib is installed, plots."""
    from ddamfn.cli.io import naming_the_file
    from ddamfn.errors import MissingExtra
    from ddamfn.evaluate.plots import plot_confusion, plot_reliability
    from ddamfn.evaluate.report import confidence_and_correct, predictions_csv

    with naming_the_file(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scores.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
        answers = predictions_csv(report.table, report.duplicate_free)
        (folder / "predictions.csv").write_text(answers, encoding="utf-8")
    table = report.table
    title = f"{report.weights}, {table.title} {table.split}, {report.rule}, N = {len(table):,}"
    try:
        plot_confusion(table.scores(), folder / "confusion.png", title=title)
        before, _ = confidence_and_correct(table, temperature=1.0)
        plot_reliability(*confidence_and_correct(table), folder / "reliability.png", before=before, title=title)
    except MissingExtra as error:
        print(f"ddamfn: no plots: {error}", file=sys.stderr)
