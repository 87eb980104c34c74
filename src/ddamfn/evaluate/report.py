"""What is printed and written about a score: always with the rule, n and N, and never "official" for a subset."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddamfn.evaluate.calibration import Kept, kept_precisions
from ddamfn.evaluate.logit_table import LogitTable
from ddamfn.evaluate.metrics import Floats, paired_drop, softmax
from ddamfn.evaluate.scores import Scores, resolve_targets
from ddamfn.weights import Card

SINGLE_LABEL = "single label"
"""What stands in place of the vote rule for sets with one label an image."""

_WIDTH = 100


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The scores of one network on one split, as it is and without the images that also stand in train.

    Attributes:
        weights: name of the weights.
        table: the logits of all images that were scored.
        duplicate_free: the table without duplicates of train images; None if nobody looked for them.
        card: the weights' card, for what its thresholds keep here; None leaves that out.
    """

    weights: str
    table: LogitTable
    duplicate_free: LogitTable | None = None
    card: Card | None = None

    @property
    def rule(self) -> str:
        """Name of the rule that made the targets."""
        return self.table.rule or SINGLE_LABEL

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; the scores of the whole split stand at the top level.

        Raises:
            DataError: if no image was scored.
        """
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
            "abstention": [kept.to_dict() for kept in self.kept()],
            "duplicate_free": None
            if cleaned is None
            else {"removed": len(self.table) - len(cleaned), **self._scores_dict(cleaned)},
            "flip_averaged": self.flip_averaged(),
        }

    def flip_averaged(self) -> dict[str, Any] | None:
        """What averaging with the mirrored face scores, apart; None if mirrored faces were not classified.

        Besides the scores of the whole split: `gain` in accuracy over the plain answers, -1..1, its paired interval
        `gain_ci95`, and `duplicate_free`, which is None where the report has none.
        """
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

    def kept(self) -> tuple[Kept, ...]:
        """What answering only above the card's thresholds gives on these images."""
        return () if self.card is None else kept_precisions(self.card, *confidence_and_correct(self.table))

    def text(self) -> str:
        """The report as a text of several lines, at most 100 columns wide.

        Raises:
            DataError: if no image was scored.
        """
        tables = [self.table] if self.duplicate_free is None else [self.table, self.duplicate_free]
        scored = [table.scores() for table in tables]
        lines = [*self._head(), "", *_columns(_score_rows(scored, self._titles())), "", *_matrix(scored[0])]
        averaged = self.flip_averaged()
        if averaged is not None:
            lines += ["", "averaged with the mirrored face, reported apart (predict does not do this):"]
            lines += _columns(_flip_rows([part for part in (averaged, averaged["duplicate_free"]) if part]))
        kept = self.kept()
        if self.card is not None and self.card.calibration is not None and kept:
            chosen_on = f"thresholds from {self.card.calibration['n']:,} validation images"
            lines += ["", f"answering only from a confidence on ({chosen_on}):", *_columns(_kept_rows(kept))]
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
        if table.unreadable:
            lines.append(f"NOT SCORED: {len(table.unreadable):,} unreadable, first {next(iter(table.unreadable))}")
        if table.unanswerable:
            lines.append(f"the network cannot answer {', '.join(table.unanswerable)}: those images count as wrong")
        if table.unasked:
            lines.append(f"the network also knows {', '.join(table.unasked)}, which the set lacks: not asked for")
        return [part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ")]


def _flip_scores(table: LogitTable) -> dict[str, Any]:
    averaged = table.flip_averaged()
    before, after = confidence_and_correct(table)[1], confidence_and_correct(averaged)[1]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    gain, interval = paired_drop(gained, lost, len(table))
    return {**averaged.scores().to_dict(), "gain": gain, "gain_ci95": list(interval)}


def predictions_csv(table: LogitTable, duplicates: LogitTable | None = None) -> str:
    """One csv line an image: key, face found, true and answered class, correct, confidence, probability of each class.

    Args:
        table: the logits.
        duplicates: the table without duplicates of train images; if given, a column says which images it lacks.
    """
    probabilities = softmax(table.logits, table.temperature)
    said = table.logits.argmax(axis=1)
    true = resolve_targets(table.targets, said, table.rule or "majority")
    kept = None if duplicates is None else set(duplicates.keys)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    extra = [] if kept is None else ["train_duplicate"]
    writer.writerow(["key", "found", "true", "predicted", "correct", "confidence", *extra, *table.classes])
    for row, key in enumerate(table.keys):
        flags = [] if kept is None else [int(key not in kept)]
        shares = [f"{p:.6f}" for p in probabilities[row]]
        names = [table.classes[true[row]], table.classes[said[row]]]
        answer = [int(true[row] == said[row]), shares[int(said[row])]]
        writer.writerow([key, int(table.found[row]), *names, *answer, *flags, *shares])
    return buffer.getvalue()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _score_rows(scored: Sequence[Scores], titles: Sequence[str]) -> list[list[str]]:
    """Rows of cells: a name, then two cells a table (the figure, and the counts behind it)."""

    def row(name: str, cells: Sequence[tuple[str, str]]) -> list[str]:
        return [name, *(part for cell in cells for part in cell)]

    rows = [
        row("", [("", title) for title in titles]),
        row("accuracy", [(_percent(s.accuracy), f"{s.correct:,}/{s.n:,}") for s in scored]),
        row("  95 % interval", [("", " - ".join(f"{100 * end:.2f}" for end in s.ci95)) for s in scored]),
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


def _kept_rows(kept: Sequence[Kept]) -> list[list[str]]:
    """What `ddamfn predict --min-precision P` would have answered on these images, a row for each P."""
    rows = [["--min-precision", "threshold", "answered", "", "right", "", "95 % interval"]]
    for entry in kept:
        ends = "-" if entry.ci95 is None else " - ".join(f"{100 * end:.2f}" for end in entry.ci95)
        answered = [_percent(entry.coverage), f"{entry.answered:,}/{entry.n:,}"]
        right = [_percent(entry.precision), f"{entry.correct:,}/{entry.answered:,}"]
        rows.append([f"{entry.asked:g}", f"{entry.threshold:.3f}", *answered, *right, ends])
    return rows


def _flip_rows(parts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of cells like `_score_rows`: a column for the whole split, and one without duplicates where there is one."""

    def span(ends: Sequence[float]) -> str:
        return " - ".join(f"{100 * end:.2f}" for end in ends)

    return [
        ["accuracy", *(c for p in parts for c in (_percent(p["accuracy"]), f"{p['correct']:,}/{p['n']:,}"))],
        ["  95 % interval", *(c for p in parts for c in ("", span(p["ci95"])))],
        ["  gain in points", *(c for p in parts for c in (f"{100 * p['gain']:+.2f}", span(p["gain_ci95"])))],
        ["mean class accuracy", *(c for p in parts for c in (_percent(p["mean_class_accuracy"]), ""))],
        ["macro-F1", *(c for p in parts for c in (_percent(p["macro_f1"]), ""))],
        ["calibration error", *(c for p in parts for c in (_percent(p["ece"]), "15 bins"))],
    ]


def _matrix(scores: Scores) -> list[str]:
    """The confusion matrix in counts; a dot is a zero."""
    rows = [["true \\ answered", *scores.classes]]
    rows += [
        [name, *(f"{count:,}" if count else "." for count in counts)]
        for name, counts in zip(scores.classes, scores.confusion_matrix, strict=True)
    ]
    return _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def confidence_and_correct(table: LogitTable, temperature: float | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidence of each answer and whether it is correct: what a reliability diagram draws.

    Args:
        table: the logits.
        temperature: in place of the table's own; 1 gives the confidence before calibration.

    Returns:
        float64 (N,) in 0..1, and bool (N,).
    """
    probabilities = softmax(table.logits, temperature or table.temperature)
    said = probabilities.argmax(axis=1)
    return probabilities.max(axis=1), said == resolve_targets(table.targets, said, table.rule or "majority")
