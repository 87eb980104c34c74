"""`ddamfn eval`: score weights on a split of a data set."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.args import add_class_prior, add_kind, positive_integer
from ddamfn.cli.io import write_errors
from ddamfn.cli.progress import Bar
from ddamfn.errors import MissingExtra, UsageError
from ddamfn.files import write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddamfn.classifier import Classifier
    from ddamfn.data import Dataset
    from ddamfn.evaluate.logit_table import LogitTable
    from ddamfn.evaluate.report import EvaluationReport
    from ddamfn.preparation import Prepared
    from ddamfn.weights import Card


_CALIBRATION_RULES = ("majority", "argmax_all")
"""Calibration is told by both: of images that most annotators agree on, and of all."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    from ddamfn.data import RULES

    parser = subparsers.add_parser(
        "eval",
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
    add_kind(parser)
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
    add_class_prior(parser, "the split")
    parser.add_argument("--record", action="store_true", help="also write the scores into the weights' card")
    parser.add_argument(
        "--workers", type=positive_integer, metavar="N", help="threads that detect (default: all cores)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, print, write; return 1 if images could not be read and are therefore missing from the score."""
    from ddamfn.classifier import Classifier
    from ddamfn.evaluate.report import EvaluationReport
    from ddamfn.weights.prior import TRAINING, describe_class_prior, prior_factors

    if args.record and args.class_prior != TRAINING:
        raise UsageError("--record is for scores under the mix of the training images: leave --class-prior out")
    classifier = Classifier(args.weights)
    factors = prior_factors(classifier.card, args.class_prior)
    with Bar(quiet=args.quiet) as bar:
        tables, by_rule, dataset = _predict(classifier, args, bar)
    card: Card | None = classifier.card
    if factors is not None:
        named = dict(zip(classifier.card.labels, factors.tolist(), strict=True))
        tables, by_rule = ([table.with_factors(named) for table in some] for some in (tables, by_rule))
        card = None  # its thresholds promise nothing under another mix
    duplicates = _duplicates_in_train(tables, dataset, args)
    cleaned = [None if duplicates is None else table.without(duplicates) for table in tables]
    name, prior = classifier.card.name, describe_class_prior(args.class_prior)
    reports = [EvaluationReport(name, *pair, card, tuple(by_rule), prior) for pair in zip(tables, cleaned, strict=True)]
    if args.format == "json":
        scores = [report.to_dict() for report in reports]
        print(json.dumps(scores[0] if len(scores) == 1 else scores, indent=2))
    else:
        print("\n".join(report.text() for report in reports), end="")
    for report in reports:
        if args.output is not None:
            _write(report, Path(args.output) / (report.rule if len(reports) > 1 else ""))
        if args.record:
            _record(report, args.weights)
    return 1 if any(table.unreadable for table in tables) else 0


def _predict(
    classifier: "Classifier", args: argparse.Namespace, bar: Bar
) -> "tuple[Sequence[LogitTable], Sequence[LogitTable], Dataset | None]":
    """Build a table per rule; also return those of `_CALIBRATION_RULES` for a set with votes, and the data set itself.

    A search for duplicates needs the data set, which is None where its images are not available.
    """
    from ddamfn.data import open_dataset
    from ddamfn.evaluate.predict import predict_rules
    from ddamfn.preparation import load_prepared
    from ddamfn.preparation.prepared import CARD_NAME

    data: Dataset | Prepared
    if (Path(args.data) / CARD_NAME).is_file():
        data = load_prepared(args.data)
        dataset, votes = None, data.votes
    else:
        data = dataset = open_dataset(args.data, args.kind)
        votes = data.card.votes
    # A rule that is named twice is meant once; without votes every rule is the same.
    rules = list(dict.fromkeys(args.rule)) if votes else args.rule[:1]
    shown = _CALIBRATION_RULES if votes else ()
    every = list(dict.fromkeys((*rules, *shown)))
    known = predict_rules(classifier, data, args.split, every, mirrored=args.flip, workers=args.workers, progress=bar)
    tables = dict(zip(every, known, strict=True))
    return [tables[rule] for rule in rules], [tables[rule] for rule in shown], dataset


def _duplicates_in_train(
    tables: "Sequence[LogitTable]", dataset: "Dataset | None", args: argparse.Namespace
) -> set[str] | None:
    """Return images that also occur in train, by the shipped list or a search if asked for; else None."""
    from ddamfn.data.duplicates import DUPLICATE_KINDS, duplicates, known_duplicates

    # The list names images of the official split; another copy may use the same names for other images.
    listed = known_duplicates(tables[0].dataset, DUPLICATE_KINDS) if any(table.official for table in tables) else set()
    if listed:
        return set(listed)
    if not args.duplicate_free:
        return None
    if dataset is None:
        raise UsageError("--duplicate-free compares the images themselves: give the data set, not a prepared one")
    return set(duplicates(dataset, near=True, workers=args.workers))


def _record(report: "EvaluationReport", weights: str | None) -> None:
    """Write the scores to the weights' card, in place of older ones of the same data set, split and rule."""
    from datetime import UTC, datetime

    from ddamfn.weights import find_weights, write_card

    network, card = find_weights(weights)
    score = {"date": datetime.now(UTC).date().isoformat(), **report.to_dict()}
    # What the card has elsewhere, or what is empty, is left out.
    elsewhere = ("weights", "temperature", "class_prior")
    optional = ("unanswerable_classes", "unasked_labels", "unreadable", "selective_prediction", "flip_averaged")
    for name in (*elsewhere, *optional, "ece_by_rule", "people"):
        if not score[name] or name in elsewhere:
            del score[name]
    write_card(card.with_score(score), network.with_name(f"{network.stem}.json"))


def _write(report: "EvaluationReport", folder: Path) -> None:
    """Write scores, predictions and, where matplotlib is installed, plots."""
    from ddamfn.evaluate.plots import plot_confusion, plot_reliability
    from ddamfn.evaluate.report import confidence_and_correct, predictions_csv

    table = report.table
    with write_errors(folder):
        write_json(folder / "scores.json", report.to_dict())
        write_bytes(folder / "predictions.csv", predictions_csv(table, report.duplicate_free).encode())
    title = f"{report.weights}, {table.title} {table.split}, {report.rule}, N = {len(table):,}"
    try:
        plot_confusion(table.scores(), folder / "confusion.png", title=title)
        before, _ = confidence_and_correct(table, temperature=1.0)
        plot_reliability(*confidence_and_correct(table), folder / "reliability.png", before=before, title=title)
    except MissingExtra as error:
        print(f"ddamfn: no plots: {error}", file=sys.stderr)
