"""Detect labels that were read in another set's order, the most common cause of a model that scores like chance.

There are two signs: class counts that match the official ones only after a permutation, and images in a folder that is
named after another expression than their label.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import PurePosixPath

import numpy as np

from ddamfn.data.catalog import CARDS
from ddamfn.data.dataset import Sample
from ddamfn.errors import UnknownLabel
from ddamfn.labels import EXPRESSIONS, canonical

_SUSPECT = 0.08
"""Share of images in the wrong class above which other orders are tried; a few lost files do not reach it."""

_BETTER = 0.25
"""Another order must reduce the difference at least to this part, or the counts are simply different."""

_SHORTEST_NAME = 3
"""Shorter folder names (`di`, `sa`) too often mean something else."""


def permuted_by_counts(observed: Mapping[str, int], official: Mapping[str, int]) -> dict[str, str] | None:
    """Find the permutation that turns a split's counts into the official ones: class name here -> official name.

    None if the names fit as they are. Counts are compared as shares, so incomplete copies are recognized too.
    """
    names = tuple(official)
    if set(observed) - set(names) or sum(observed.values()) == 0:
        return None
    here = np.array([observed.get(name, 0) for name in names], dtype=np.float64)
    there = np.array([official[name] for name in names], dtype=np.float64)
    here, there = here / here.sum(), there / there.sum()
    as_named = 0.5 * float(np.abs(here - there).sum())
    if as_named < _SUSPECT:
        return None
    # At most 8! = 40,320 orders: brute force is fast enough.
    orders = np.array(list(permutations(range(len(names)))))
    distances = 0.5 * np.abs(here[None] - there[orders]).sum(axis=1)
    best = int(distances.argmin())
    if distances[best] > _BETTER * as_named:
        return None
    return {name: names[to] for name, to in zip(names, orders[best], strict=True) if names[to] != name}


def permuted_by_folders(samples: Iterable[Sample]) -> dict[str, str]:
    """Return label -> the expression that most of its images' folders name, where the two differ."""
    named: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        if sample.label is not None:
            for folder in _expressions_in(sample.key):
                named[sample.label][folder] += 1
    moved = {}
    for label, folders in named.items():
        winner, count = folders.most_common(1)[0]
        if winner != label and count > 0.5 * folders.total():
            moved[label] = winner
    return moved


def _expressions_in(key: str) -> list[str]:
    """Return the expressions that the folders of a key name."""
    found = []
    for part in PurePosixPath(key).parts[:-1]:
        if len(part) < _SHORTEST_NAME:
            continue
        try:
            found.append(canonical(part))
        except UnknownLabel:
            continue
    return found


def explain_order(moved: Mapping[str, str], classes: Sequence[str]) -> str:
    """Describe which known order was mistaken for this set's, or list each permuted label."""
    truth = tuple(moved.get(name, name) for name in classes)
    # The part of a title after the comma (", 8 classes") is not about the order.
    orders = {f"the order of {card.title.partition(',')[0]}": card.classes for card in CARDS.values()}
    orders |= {"the alphabetical order": tuple(sorted(EXPRESSIONS)), "the canonical order": EXPRESSIONS}
    for title, order in orders.items():
        if tuple(name for name in order if name in set(classes)) == truth:
            return f"it looks as if {title} had been read as this set's"
    return "; ".join(f"{label!r} seems to be {name}" for label, name in moved.items())
