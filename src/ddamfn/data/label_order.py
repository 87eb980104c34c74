"""Whether a data set's labels were read in another set's order, the commonest way to a model that scores like chance.

Two signs give it away: class counts that match the official ones only after a permutation, and images that lie in a
folder named after another expression than their label.
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
"""Share of images in the wrong class beyond which another order is looked for; a few lost files do not reach it."""

_BETTER = 0.25
"""Another order must leave at most this part of the difference, or the counts are simply other counts."""

_SHORTEST_NAME = 3
"""Folder names below this length (`di`, `sa`) are too often something else."""


def permuted_by_counts(observed: Mapping[str, int], official: Mapping[str, int]) -> dict[str, str] | None:
    """Find the permutation of class names that makes a split's counts the official ones.

    Counts are compared as shares, so a copy that lacks some images is recognized too.

    Args:
        observed: class -> images, as this copy's labels say.
        official: class -> images, as published.

    Returns:
        This copy's name -> the class whose official count it has, for the names that move; None where the names fit as
        they are, or where no order fits much better.
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
    # At most 8! = 40,320 orders: quicker tried than argued about.
    orders = np.array(list(permutations(range(len(names)))))
    distances = 0.5 * np.abs(here[None] - there[orders]).sum(axis=1)
    best = int(distances.argmin())
    if distances[best] > _BETTER * as_named:
        return None
    return {name: names[to] for name, to in zip(names, orders[best], strict=True) if names[to] != name}


def permuted_by_folders(samples: Iterable[Sample]) -> dict[str, str]:
    """Compare labels with the names of the folders that the images lie in.

    Returns:
        Label -> the expression that most of its images' folders name, for the labels where that is another one.
    """
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
    """Say in words which order was mistaken for which, where it is a known one.

    Args:
        moved: label -> what it seems to be.
        classes: canonical names in the order of the set's own numbers.

    Returns:
        A clause such as `it looks as if the order of FER2013 had been read as this set's`, or the single moves.
    """
    truth = tuple(moved.get(name, name) for name in classes)
    # A title's remark after the comma (", 8 classes") says nothing about the order.
    orders = {f"the order of {card.title.partition(',')[0]}": card.classes for card in CARDS.values()}
    orders |= {"the alphabetical order": tuple(sorted(EXPRESSIONS)), "the canonical order": EXPRESSIONS}
    for title, order in orders.items():
        if tuple(name for name in order if name in set(classes)) == truth:
            return f"it looks as if {title} had been read as this set's"
    return "; ".join(f"{label!r} seems to be {name}" for label, name in moved.items())
