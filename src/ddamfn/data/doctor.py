"""Checks a data set: counts, label order, duplicates, leakage between splits."""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from ddamfn.data.catalog import Counts, DatasetCard
from ddamfn.data.dataset import Dataset, Progress
from ddamfn.data.duplicates import (
    NEAR_CORRELATION,
    Duplicate,
    Fingerprints,
    exact_duplicates,
    exact_groups,
    near_duplicates,
    take_fingerprints,
)
from ddamfn.data.label_order import explain_order, permuted_by_counts, permuted_by_folders

_SHOWN = 10
"""Keys named in the text of a finding; `to_dict` has all of them."""
_EVALUATION_SPLITS = ("test", "val")


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set."""

    kind: str  # such as `counts`, `label_order`, `unreadable` or `near_duplicates`
    severity: Literal["error", "warning"]  # an error makes scores wrong; a warning qualifies them
    message: str
    keys: tuple[str, ...] = ()  # the affected images, subjects or classes
    details: tuple[str, ...] = ()  # one line per key, where there is more to say


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of a copy of a data set."""

    dataset: str
    title: str
    note: str  # what this copy is
    rule: str | None  # None for sets with one label per image
    classes: tuple[str, ...]  # canonical, in the set's own order
    sizes: Mapping[str, int]  # split -> images listed
    counts: Counts  # split -> class -> images (after the rule)
    official_sizes: Mapping[str, int]  # empty where there are no official splits
    official_counts: Counts  # empty where unknown
    official_test: bool  # the evaluation split is the official one, whole and readable
    official_message: str  # names every count that differs
    unreadable: Mapping[str, str] | None = None  # key -> reason; None where the images were not read
    exact_groups: int | None = None  # groups of identical images; None where the images were not read
    duplicates: tuple[Duplicate, ...] = ()  # exact and near, across splits
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes scores wrong."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts, lists, strings and numbers, ready for JSON."""
        return asdict(self) | {
            "classes": list(self.classes),
            "duplicates": [asdict(duplicate) for duplicate in self.duplicates],
            "ok": self.ok,
            "findings": [
                {"kind": f.kind, "severity": f.severity, "message": f.message, "keys": list(f.keys)}
                for f in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """Return the report as text: a table of counts, the findings, and whether the test split is official."""
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
        table = Table.grid("", *splits, padding=(0, 2))
        for column in table.columns[1:]:
            column.justify = "right"
        table.add_row("", *splits)
        for name in self.classes:
            table.add_row(name, *(_cell(self.counts[s].get(name, 0), self._official(s, name)) for s in splits))
        if self.rule:
            kept = [(sum(self.counts[s].values()), sum(self.official_counts.get(s, {}).values())) for s in splits]
            table.add_row(f"kept by {self.rule}", *(_cell(here, there or None) for here, there in kept))
        table.add_row("images", *(_cell(self.sizes[s], self.official_sizes.get(s)) for s in splits))
        text = io.StringIO()
        # Wide enough for any table: lines must not depend on the terminal.
        Console(file=text, width=1000, color_system=None, markup=False, emoji=False, highlight=False).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]

    def _official(self, split: str, name: str) -> int | None:
        """Return the official count of a class, or None where it is not known."""
        return self.official_counts[split].get(name, 0) if split in self.official_counts else None


def _cell(here: int, official: int | None) -> str:
    """Return `here`, or `here/official` where the official number is known and another one."""
    return f"{here:,}" if official in (None, here) else f"{here:,}/{official:,}"


def check(
    dataset: Dataset,
    *,
    rule: str = "majority",
    images: bool = True,
    near: bool = True,
    threshold: float = NEAR_CORRELATION,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Check a data set; without `images` none is read, so unreadable files and duplicates are not searched.

    `near` also searches near-duplicates across splits: 24x24 grayscale thumbnails that correlate above `threshold`.
    Official class counts of sets of votes are known for the rule `majority` only.
    """
    card = dataset.card
    sizes, counts = count_images(dataset, rule)
    official = card.counts if not card.votes or rule == "majority" else {}
    findings = [
        *_check_counts(card, sizes, counts, official),
        *_check_empty(counts),
        *_check_label_order(dataset, counts, official),
        *_check_subjects(dataset),
    ]
    prints = take_fingerprints(dataset, workers, progress) if images else None
    duplicates = _find_duplicates(prints, dataset.splits, near, threshold) if prints is not None else ()
    if prints is not None:
        findings += [*_check_unreadable(prints), *_check_repeats(prints), *_check_duplicates(duplicates)]
    unreadable = prints.unreadable if prints is not None else None
    is_official, message = judge_official_test(dataset, sizes, counts, official, unreadable or {})
    return Diagnosis(
        dataset=card.name,
        title=card.title,
        note=dataset.note,
        rule=rule if card.votes else None,
        classes=dataset.classes,
        sizes=sizes,
        counts=counts,
        official_sizes=card.sizes,
        official_counts=official,
        official_test=is_official,
        official_message=message,
        unreadable=unreadable,
        exact_groups=len(exact_groups(prints)) if prints is not None else None,
        duplicates=duplicates,
        findings=tuple(findings),
    )


def count_images(dataset: Dataset, rule: str = "majority") -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Count the images listed (split -> images) and kept by the rule (split -> strongest class -> images)."""
    keep, target = dataset.targets(rule)
    winners = target.argmax(axis=1)
    sizes = dict.fromkeys(dataset.splits, 0)
    counts = {split: dict.fromkeys(dataset.classes, 0) for split in dataset.splits}
    for sample, kept, winner in zip(dataset.samples, keep, winners, strict=True):
        sizes[sample.split] += 1
        if kept:
            counts[sample.split][dataset.classes[winner]] += 1
    return sizes, counts


def judge_official_test(
    dataset: Dataset, sizes: Mapping[str, int], counts: Counts, official: Counts, unreadable: Mapping[str, str]
) -> tuple[bool, str]:
    """Decide whether the evaluation split may be called the official one; return the decision and the reason."""
    card = dataset.card
    split = next((name for name in _EVALUATION_SPLITS if name in card.sizes), None)
    if split is None:
        return False, f"{card.title} has no official test split; name the images with every score"
    if split not in sizes:
        return False, f"this copy of {card.title} has no {split} split"
    differences = _differences(card, split, sizes[split], counts[split], official)
    lost = sum(sample.key in unreadable for sample in dataset.samples if sample.split == split)
    if lost:
        differences.append(f"{lost:,} unreadable")
    if differences:
        found = "; ".join(differences)
        return False, f"{split} has {found}: this is not the official {split} split of {card.title}"
    known = ", and every class has its official number" if split in official else ""
    return True, f"{split} has the official {sizes[split]:,} images{known}"


def _differences(card: DatasetCard, split: str, size: int, row: Mapping[str, int], official: Counts) -> list[str]:
    """List how a split's counts differ from those of the nearest official release."""
    releases = [(card.sizes[split], official.get(split, {}))]
    releases += [(sum(variant.values()), variant) for variant in card.variants.get(split, ())]
    found = []
    for expected, classes in releases:
        gaps = [f"{name} {row.get(name, 0):,} of {n:,}" for name, n in classes.items() if row.get(name, 0) != n]
        found.append([f"{size:,} images instead of {expected:,}", *gaps] if size != expected else gaps)
    return min(found, key=len)


def _check_counts(card: DatasetCard, sizes: Mapping[str, int], counts: Counts, official: Counts) -> Iterable[Finding]:
    """Compare every split's size and class counts with the official ones."""
    for split, expected in card.sizes.items():
        if split not in sizes:
            yield Finding("counts", "warning", f"the official split {split} ({expected:,} images) is not in this copy")
            continue
        differences = _differences(card, split, sizes[split], counts[split], official)
        if differences:
            yield Finding("counts", "warning", f"{split} is not the official split: {'; '.join(differences)}")


def _check_empty(counts: Counts) -> Iterable[Finding]:
    """Report classes without images, and a set of a single class."""
    if len({name for row in counts.values() for name in row}) < 2:
        message = "all images are of one class: this can be scored, but no network can be trained on it"
        yield Finding("one_class", "warning", message)
    for split, row in counts.items():
        empty = tuple(name for name, n in row.items() if n == 0)
        if empty:
            yield Finding("empty_class", "warning", f"{split} has no images of {', '.join(empty)}", empty)


def _check_label_order(dataset: Dataset, counts: Counts, official: Counts) -> Iterable[Finding]:
    """Detect labels that were read in another set's order."""
    for split, row in counts.items():
        moved = permuted_by_counts(row, official[split]) if split in official else None
        if moved:
            how = explain_order(moved, dataset.classes)
            message = f"the labels of {split} have the official counts of other classes: {how}; correct the labels"
            yield Finding("label_order", "error", message, tuple(moved))
    moved = permuted_by_folders(dataset.samples)
    if moved:
        how = explain_order(moved, dataset.classes)
        message = f"labels contradict the names of the folders that the images lie in: {how}; correct the labels"
        yield Finding("label_order", "error", message, tuple(moved))


def _check_subjects(dataset: Dataset) -> Iterable[Finding]:
    """Detect subjects that occur in several splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in dataset.samples:
        if sample.subject is not None:
            splits[sample.subject].add(sample.split)
    shared = tuple(sorted(subject for subject, found in splits.items() if len(found) > 1))
    if shared:
        message = f"{len(shared):,} of {len(splits):,} subjects occur in more than one split; split the set by subject"
        yield Finding("subjects", "error", message, shared)


def _check_unreadable(prints: Fingerprints) -> Iterable[Finding]:
    """Report images that cannot be decoded."""
    if prints.unreadable:
        message = f"{len(prints.unreadable):,} images cannot be read; restore them or remove them from the list"
        reasons = tuple(why if key in why else f"{key}: {why}" for key, why in prints.unreadable.items())
        yield Finding("unreadable", "error", message, tuple(prints.unreadable), reasons)


def _check_repeats(prints: Fingerprints) -> Iterable[Finding]:
    """Report identical images within a split, and identical images with different labels."""
    groups = [[prints.samples[i] for i in group] for group in exact_groups(prints)]
    conflicts = [group for group in groups if len({sample.label for sample in group}) > 1]
    if conflicts:
        keys = tuple(sample.key for group in conflicts for sample in group)
        message = f"{len(conflicts):,} groups of identical images have different labels"
        yield Finding("label_conflict", "warning", message, keys)
    repeats = [group for group in groups if len({sample.split for sample in group}) < len(group)]
    if repeats:
        keys = tuple(sample.key for group in repeats for sample in group)
        message = f"{len(repeats):,} groups of identical images have several members in one split"
        yield Finding("repeated", "warning", message, keys)


def _find_duplicates(
    prints: Fingerprints, splits: tuple[str, ...], near: bool, threshold: float
) -> tuple[Duplicate, ...]:
    """Find duplicates across splits; each pair of splits is searched from the later one, as test in train."""
    found: dict[tuple[str, str], Duplicate] = {}
    for place, split in enumerate(splits):
        for other in splits[:place]:
            # Exact duplicates last: where an image has both kinds, the exact one is the finding.
            pairs = near_duplicates(prints, split, other, threshold) if near else []
            for duplicate in [*pairs, *exact_duplicates(prints, split, other)]:
                found[duplicate.key, other] = duplicate
    return tuple(found.values())


def _check_duplicates(duplicates: tuple[Duplicate, ...]) -> Iterable[Finding]:
    """Count the exact and near duplicates of every pair of splits."""
    groups: dict[tuple[str, str, bool], list[Duplicate]] = defaultdict(list)
    for duplicate in duplicates:
        groups[duplicate.split, duplicate.other_split, duplicate.exact].append(duplicate)
    for (split, other, exact), found in groups.items():
        kind = "exact" if exact else "near"
        pairs = tuple(f"{d.key} = {d.other_key}" for d in found)
        message = f"{len(found):,} images of {split} have {kind} duplicates in {other}; report scores without them too"
        yield Finding(f"{kind}_duplicates", "warning", message, tuple(d.key for d in found), pairs)
