"""The report of an evaluation: always with the rule, n and N, and never "official" for a subset."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddamfn.evaluate.calibration import SelectivePrediction, selective_predictions
from ddamfn.evaluate.logit_table import LogitTable
from ddamfn.evaluate.metrics import Floats, paired_drop, softmax
from ddamfn.evaluate.people import People
from ddamfn.evaluate.scores import Scores, resolve_targets
from ddamfn.files import csv_lines
from ddamfn.weights import Card
from ddamfn.weights.prior import TRAINING

SINGLE_LABEL = "single label"
"""Replaces the vote rule for sets with one label per image."""

_WIDTH = 100
# Tables are not wrapped: a matrix of many classes may be wider than the text.
_TABLE_WIDTH = 300


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationReport:
    """The scores of one network on one split, with and without duplicates of training images."""

    weights: str  # name
    table: LogitTable  # of all scored images
    duplicate_free: LogitTable | None = None  # None if duplicates were not searched for
    card: Card | None = None  # for selective prediction by its thresholds
    by_rule: tuple[LogitTable, ...] = ()  # of the same split under rules whose calibration errors are told apart
    class_prior: str = TRAINING  # that the tables have; a text as `--class-prior` takes it

    @property
    def rule(self) -> str:
        """Name of the rule that made the targets."""
        return self.table.rule or SINGLE_LABEL

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON, with the scores of the whole split at the top level."""
        cleaned = self.duplicate_free
        return {
            "weights": self.weights,
            "dataset": self.table.dataset,
            "note": self.table.note,
            "official": self.table.official,
            "official_message": self.table.official_message,
            **self._scores_dict(self.table),
            "unreadable": dict(self.table.unreadable),
            "unanswerable_classes": list(self.table.unanswerable),
            "unasked_labels": list(self.table.unasked),
            "temperature": self.table.temperature,
            "class_prior": self.class_prior,
            "ece_by_rule": self.ece_by_rule(),
            "people": None if (people := self.table.people()) is None else people.to_dict(),
            "selective_prediction": [entry.to_dict() for entry in self.selective()],
            "duplicate_free": None
            if cleaned is None
            else {"removed": len(self.table) - len(cleaned), **self._scores_dict(cleaned)},
            "flip_averaged": self.flip_averaged(),
        }

    def ece_by_rule(self) -> dict[str, dict[str, float]]:
        """Return n and the calibration error with and without temperature by vote rule, if several were measured."""
        scored = {table.rule or SINGLE_LABEL: table.scores() for table in self.by_rule if len(table)}
        return {rule: {"n": s.n, "ece": s.ece, "ece_before": s.ece_before} for rule, s in scored.items()}

    def flip_averaged(self) -> dict[str, Any] | None:
        """Return scores with flip averaging, its `gain` (-1..1) and interval; None without mirrored faces."""
        if self.table.mirrored is None:
            return None
        cleaned = self.duplicate_free
        return {
            **_flip_scores(self.table),
            "duplicate_free": None if cleaned is None or cleaned.mirrored is None else _flip_scores(cleaned),
        }

    def _scores_dict(self, table: LogitTable) -> dict[str, Any]:
        found = int(table.found.sum())
        return {
            "split": table.split,
            "rule": self.rule,
            **table.scores().to_dict(),
            "faces_found": found,
            "fallbacks": len(table) - found,
        }

    def selective(self) -> tuple[SelectivePrediction, ...]:
        """The results of predicting only above the card's thresholds."""
        return () if self.card is None else selective_predictions(self.card, *confidence_and_correct(self.table))

    def text(self) -> str:
        """Return the report as text, at most 100 columns wide."""
        tables = [self.table] if self.duplicate_free is None else [self.table, self.duplicate_free]
        scored = [table.scores() for table in tables]
        lines = [*self._head(), "", *_render(_score_rows(scored, self._titles())), "", *_matrix(scored[0])]
        lines += _by_rule_lines(self.ece_by_rule())
        people = self.table.people()
        if people is not None:
            lines += ["", *_people_lines(people)]
        averaged = self.flip_averaged()
        if averaged is not None:
            lines += ["", "averaged with the mirrored face, reported apart (predict does not do this):"]
            lines += _render(_flip_rows([part for part in (averaged, averaged["duplicate_free"]) if part]))
        selective = self.selective()
        if self.card is not None and self.card.calibration is not None and selective:
            chosen_on = f"thresholds from {self.card.calibration['n']:,} validation images"
            lines += ["", f"selective prediction ({chosen_on}):", *_render(_selective_rows(selective))]
        return "\n".join(lines) + "\n"

    def _titles(self) -> list[str]:
        first = "official" if self.table.official else "all scored"
        return [first] if self.duplicate_free is None else [first, "without train duplicates"]

    def _head(self) -> list[str]:
        table = self.table
        found, kind = int(table.found.sum()), "official" if table.official else "NOT official"
        copy = f" ({table.note.split(';')[0]})" if table.note else ""
        lines = [
            f"{self.weights} on {table.title}{copy}",
            f"split {table.split}, rule {self.rule}, N = {len(table):,}",
            f"{kind}: {table.official_message}",
            f"faces found in {found:,} images; {len(table) - found:,} resized as a whole",
        ]
        if self.class_prior != TRAINING:
            lines.append(f"class prior {self.class_prior}, in place of the mix of the training images")
        if table.unreadable:
            lines.append(f"NOT SCORED: {len(table.unreadable):,} unreadable, first {next(iter(table.unreadable))}")
        if table.unanswerable:
            lines.append(f"the network cannot answer {', '.join(table.unanswerable)}: those images count as wrong")
        if table.unasked:
            lines.append(f"the network also knows {', '.join(table.unasked)}, which the set lacks: not asked for")
        return [part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ")]


def _by_rule_lines(by_rule: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the calibration errors by rule as a table below an empty line; nothing where there are none."""
    if not by_rule:
        return []
    rows = [["calibration error by rule", "", "without temperature", "N"]]
    rows += [[f"  {rule}", _percent(s["ece"]), _percent(s["ece_before"]), f"{s['n']:,}"] for rule, s in by_rule.items()]
    return ["", *_render(rows)]


def _people_lines(people: People) -> list[str]:
    """Return the comparison with the annotators as text; `ddamfn.evaluate.people` defines the figures."""
    rows = [
        ["beside the annotators", "annotator", "network", "ceiling"],
        ["  agrees with the others", _percent(people.annotator), _percent(people.network), "-"],
        [
            f"  against votes redrawn {people.draws} times",
            "-",
            _percent(people.network_redrawn),
            _percent(people.ceiling),
        ],
        ["right by votes that agree", "", "", ""],
    ]
    for row in people.agreement:
        rows.append([f"  {row.votes_of_ten} of 10", "", _percent(row.correct / row.n), f"{row.correct:,}/{row.n:,}"])
    return _render(rows)


def _flip_scores(table: LogitTable) -> dict[str, Any]:
    averaged = table.flip_averaged()
    before, after = confidence_and_correct(table)[1], confidence_and_correct(averaged)[1]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    gain, interval = paired_drop(gained, lost, len(table))
    return {**averaged.scores().to_dict(), "gain": gain, "gain_ci95": list(interval)}


def predictions_csv(table: LogitTable, duplicate_free: LogitTable | None = None) -> str:
    """Return one CSV line per image; with `duplicate_free`, a column marks the duplicates of training images."""
    probabilities = softmax(table.logits, table.temperature)
    predictions = table.logits.argmax(axis=1)
    true = resolve_targets(table.targets, predictions, table.rule or "majority")
    kept = None if duplicate_free is None else set(duplicate_free.keys)
    extra = [] if kept is None else ["train_duplicate"]
    rows: list[list[Any]] = [["key", "found", "true", "predicted", "correct", "confidence", *extra, *table.classes]]
    for row, (key, label, prediction) in enumerate(zip(table.keys, true, predictions, strict=True)):
        flags = [] if kept is None else [int(key not in kept)]
        shares = [f"{p:.6f}" for p in probabilities[row]]
        cells = [table.classes[label], table.classes[prediction], int(label == prediction), shares[prediction]]
        rows.append([key, int(table.found[row]), *cells, *flags, *shares])
    return csv_lines(rows)


def confidence_and_correct(table: LogitTable, temperature: float | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each prediction's confidence, float64 (N,) in 0..1, and correctness, bool (N,).

    A temperature replaces the table's own: 1 gives the confidence before calibration.
    """
    probabilities = softmax(table.logits, temperature or table.temperature)
    predictions = probabilities.argmax(axis=1)
    true = resolve_targets(table.targets, predictions, table.rule or "majority")
    return probabilities.max(axis=1), predictions == true


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else " - ".join(f"{100 * end:.2f}" for end in ends)


def _score_rows(scored: Sequence[Scores], titles: Sequence[str]) -> list[list[str]]:
    """Return rows of cells: a name, then two cells per table (the figure, and its counts)."""

    def row(name: str, cells: Sequence[tuple[str, str]]) -> list[str]:
        return [name, *(part for cell in cells for part in cell)]

    rows = [
        row("", [("", title) for title in titles]),
        row("accuracy", [(_percent(s.accuracy), f"{s.correct:,}/{s.n:,}") for s in scored]),
        row("  95 % interval", [("", _interval(s.ci95)) for s in scored]),
        row("mean class accuracy", [(_percent(s.mean_class_accuracy), "") for s in scored]),
        row("macro-F1", [(_percent(s.macro_f1), "") for s in scored]),
        row("calibration error", [(_percent(s.ece), "15 bins") for s in scored]),
        row("  without temperature", [(_percent(s.ece_before), "") for s in scored]),
        row("negative log-likelihood", [(f"{s.nll:.4f}", "nats") for s in scored]),
        row("recall of", [("", "") for _ in scored]),
    ]
    for index, name in enumerate(scored[0].classes):
        cells = [(s.confusion_matrix[index][index], s.support[name], s.per_class_recall[name]) for s in scored]
        rows.append(row(f"  {name}", [(_percent(share), f"{hits:,}/{n:,}") for hits, n, share in cells]))
    return rows


def _selective_rows(entries: Sequence[SelectivePrediction]) -> list[list[str]]:
    """Return a row per minimum precision of `ddamfn predict`: what it would have predicted on these images."""
    rows = [["precision", "threshold", "answered", "", "correct", "", "95 % interval"]]
    for entry in entries:
        answered = [_percent(entry.coverage), f"{entry.answered:,}/{entry.n:,}"]
        correct = [_percent(entry.precision), f"{entry.correct:,}/{entry.answered:,}"]
        threshold = f"{entry.threshold:.3f}"
        rows.append([f"{entry.min_precision:g}", threshold, *answered, *correct, _interval(entry.ci95)])
    return rows


def _flip_rows(parts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return rows like `_score_rows`: a column for the whole split, and one without duplicates if given."""
    return [
        ["accuracy", *(c for p in parts for c in (_percent(p["accuracy"]), f"{p['correct']:,}/{p['n']:,}"))],
        ["  95 % interval", *(c for p in parts for c in ("", _interval(p["ci95"])))],
        ["  gain in points", *(c for p in parts for c in (f"{100 * p['gain']:+.2f}", _interval(p["gain_ci95"])))],
        ["mean class accuracy", *(c for p in parts for c in (_percent(p["mean_class_accuracy"]), ""))],
        ["macro-F1", *(c for p in parts for c in (_percent(p["macro_f1"]), ""))],
        ["calibration error", *(c for p in parts for c in (_percent(p["ece"]), "15 bins"))],
    ]


def _matrix(scores: Scores) -> list[str]:
    """Return the confusion matrix in counts, with a dot for zero."""
    rows = [["true \\ predicted", *scores.classes]]
    rows += [
        [name, *(f"{count:,}" if count else "." for count in counts)]
        for name, counts in zip(scores.classes, scores.confusion_matrix, strict=True)
    ]
    return _render(rows)


def _render(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of cells in columns, the first left-aligned, the others right-aligned."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=_TABLE_WIDTH, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
