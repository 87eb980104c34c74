"""What the check of a data set found, as frozen records and as lines of text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ddamfn.data.duplicates import Twin

Severity = Literal["error", "warning"]

_SHOWN = 10
"""Keys named in the text of a finding; `to_dict` has all of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a data set.

    Attributes:
        kind: `counts`, `empty_class`, `label_order`, `subjects`, `unreadable`, `label_conflict`, `repeated`,
            `exact_duplicates` or `near_duplicates`.
        severity: an `error` makes scores wrong; a `warning` must be known to read them.
        message: one sentence.
        keys: the pictures, subjects or classes it is about.
        details: one line for each key, where there is more to say than its name.
    """

    kind: str
    severity: Severity
    message: str
    keys: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a copy of a data set.

    Attributes:
        dataset: the card's name.
        title: the card's title.
        note: what this copy is.
        rule: vote rule behind the counts, or None for sets with one label a picture.
        classes: canonical names in the set's own order.
        sizes: split -> pictures listed.
        counts: split -> class -> pictures (after the rule).
        official_sizes: split -> pictures in the official set; empty where there is none.
        official_counts: split -> class -> pictures in the official set; empty where they are not known.
        official_test: whether the evaluation split is the official one, whole and readable.
        official_message: why it is or is not, naming every count that differs.
        unreadable: key -> why; None where the pictures were not read.
        exact_groups: groups of equal pictures, within and across splits; None where the pictures were not read.
        twins: pictures that stand in two splits, exactly or nearly.
        findings: all that is wrong.
    """

    dataset: str
    title: str
    note: str
    rule: str | None
    classes: tuple[str, ...]
    sizes: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    official_sizes: Mapping[str, int]
    official_counts: Mapping[str, Mapping[str, int]]
    official_test: bool
    official_message: str
    unreadable: Mapping[str, str] | None = None
    exact_groups: int | None = None
    twins: tuple[Twin, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes scores wrong."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts, lists, strings and numbers, ready for JSON."""
        return {
            "dataset": self.dataset,
            "title": self.title,
            "note": self.note,
            "rule": self.rule,
            "classes": list(self.classes),
            "sizes": dict(self.sizes),
            "counts": {split: dict(row) for split, row in self.counts.items()},
            "official_sizes": dict(self.official_sizes),
            "official_counts": {split: dict(row) for split, row in self.official_counts.items()},
            "official_test": self.official_test,
            "official_message": self.official_message,
            "unreadable": None if self.unreadable is None else dict(self.unreadable),
            "exact_groups": self.exact_groups,
            "twins": [asdict(twin) for twin in self.twins],
            "ok": self.ok,
            "findings": [
                {"kind": f.kind, "severity": f.severity, "message": f.message, "keys": list(f.keys)}
                for f in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """Return the report as text: a table of counts, the findings, and what the test split may be called."""
        about = [self.title, *([f"rule {self.rule}"] if self.rule else []), *([self.note] if self.note else [])]
        lines = ["; ".join(about), *self._table(), ""]
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding.message}")
            lines += [f"  {line}" for line in (finding.details or finding.keys)[:_SHOWN]]
            if len(finding.keys) > _SHOWN:
                lines.append(f"  and {len(finding.keys) - _SHOWN:,} more")
        if not self.findings:
            lines.append("nothing wrong was found")
        lines.append(f"official test: {'yes' if self.official_test else 'no'}; {self.official_message}")
        return lines

    def _table(self) -> list[str]:
        """Return rows of classes and columns of splits, each cell `here/official` where the official count is known."""
        splits = list(self.sizes)
        cells = [["", *splits]]
        for name in self.classes:
            cells.append([name, *(_cell(self.counts[s].get(name, 0), self._official(s, name)) for s in splits)])
        if self.rule:
            kept = [(sum(self.counts[s].values()), sum(self.official_counts.get(s, {}).values())) for s in splits]
            cells.append([f"kept by {self.rule}", *(_cell(here, there or None) for here, there in kept)])
        cells.append(["pictures", *(_cell(self.sizes[s], self.official_sizes.get(s)) for s in splits)])
        widths = [max(len(row[column]) for row in cells) for column in range(len(splits) + 1)]
        return [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            ).rstrip()
            for row in cells
        ]

    def _official(self, split: str, name: str) -> int | None:
        """Return the official count of a class, or None where it is not known."""
        return self.official_counts[split].get(name, 0) if split in self.official_counts else None


def _cell(here: int, official: int | None) -> str:
    """Return `here`, or `here/official` where the official number is known and another one."""
    return f"{here:,}" if official in (None, here) else f"{here:,}/{official:,}"
