"""Runs weights over the images of a data set."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.data.catalog import CARDS, DatasetCard
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.data.doctor import count_images, judge_official_test
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.evaluate.logit_table import LogitTable, to_classes
from ddamfn.faces import NETWORK_SHA256, Alignment, RetinaFace
from ddamfn.preparation import Prepared
from ddamfn.preparation.image import Hints, Outcome, prepare_image, unreadable


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Logits in the order in which images came; (N, L), columns in the order of the card's labels.

    Attributes:
        logits: chunks of logits.
        mirrored: the same of the crops with left and right exchanged; None if they are not asked for.
        rows: the image's key -> its row.
        found: of each row, whether a face was found.
    """

    logits: list[NDArray[np.float32]]
    mirrored: list[NDArray[np.float32]] | None
    rows: dict[str, int]
    found: list[bool]

    @classmethod
    def none(cls, classifier: Classifier, mirrored: bool) -> "Answers":
        """Begin without an image."""
        nothing = np.zeros((0, len(classifier.card.labels)), np.float32)
        return cls([nothing], [nothing] if mirrored else None, {}, [])

    def add(self, classifier: Classifier, crops: NDArray[np.uint8]) -> None:
        """Classify crops (N, S, S, 3), the images of which are then named in the same order."""
        self.logits.append(classifier.classify(crops)[0])
        if self.mirrored is not None:
            self.mirrored.append(classifier.classify(np.ascontiguousarray(crops[:, :, ::-1]))[0])

    def name(self, key: str, found: bool) -> None:
        """Say which image the next row is of."""
        self.rows[key] = len(self.rows)
        self.found.append(found)


log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the images done and those in all."""

_CHUNK = 64
_CHUNKS_AHEAD = 2

_Prepared = tuple[Outcome, NDArray[np.uint8] | None]


def predict_split(
    classifier: Classifier,
    dataset: Dataset,
    split: str,
    rule: str = "majority",
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LogitTable:
    """Read, detect, align and classify a split of a data set in its own layout.

    Args:
        classifier: the weights; faces are aligned as their card says.
        dataset: the set.
        split: name of the split.
        rule: one of `ddamfn.data.RULES`; without meaning for sets with one label an image.
        workers: threads that decode and detect; one a core when None.
        progress: called after every chunk of images.

    Raises:
        DataError: if there is no such split.
        UsageError: if the rule is unknown, or the network knows none of the set's classes.
    """
    (table,) = predict_rules(classifier, dataset, split, (rule,), workers=workers, progress=progress)
    return table


def predict_rules(
    classifier: Classifier,
    dataset: Dataset,
    split: str,
    rules: Sequence[str],
    *,
    mirrored: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[LogitTable, ...]:
    """Do as `predict_split`, under several vote rules: an image that more than one keeps is still read once.

    Args:
        classifier: the weights; faces are aligned as their card says.
        dataset: the set.
        split: name of the split.
        rules: some of `ddamfn.data.RULES`, one table each.
        mirrored: classify each face a second time, left and right exchanged; see `LogitTable.flip_averaged`.
        workers: threads that decode and detect; one a core when None.
        progress: called after every chunk of images.

    Raises:
        DataError: if there is no such split.
        UsageError: if a rule is unknown, or the network knows none of the set's classes.
    """
    part = dataset.select(split)
    keep = np.any([part.targets(rule)[0] for rule in rules], axis=0)
    chosen = [sample for sample, kept in zip(part.samples, keep, strict=True) if kept]
    answers, outcomes = Answers.none(classifier, mirrored), []
    for chunk in _prepare(part, chosen, alignment_of(classifier.card), workers or os.cpu_count() or 1):
        crops = [pixels for _, pixels in chunk if pixels is not None]
        if crops:
            answers.add(classifier, np.stack(crops))
        outcomes += [outcome for outcome, _ in chunk]
        if progress is not None:
            progress(len(outcomes), len(chosen))
    for sample, outcome in zip(chosen, outcomes, strict=True):
        if not outcome.error:
            answers.name(sample.key, outcome.found)
    broken = {s.key: o.error for s, o in zip(chosen, outcomes, strict=True) if o.error}
    return tuple(_table(classifier, dataset, split, rule, broken, answers) for rule in rules)


def predict_prepared(
    classifier: Classifier,
    prepared: Prepared,
    split: str,
    rule: str = "majority",
    *,
    progress: Progress | None = None,
) -> LogitTable:
    """Classify the crops of a prepared set.

    Args:
        classifier: the weights.
        prepared: crops that were aligned as the weights' card says.
        split: name of the split.
        rule: as in `predict_split`.
        progress: called after every chunk of images.

    Raises:
        DataError: if there is no such split or its files are damaged.
        UsageError: if the crops were aligned in another way, the rule is unknown, or the network knows none of the
        classes.
    """
    (table,) = predict_prepared_rules(classifier, prepared, split, (rule,), progress=progress)
    return table


def predict_prepared_rules(
    classifier: Classifier,
    prepared: Prepared,
    split: str,
    rules: Sequence[str],
    *,
    mirrored: bool = False,
    progress: Progress | None = None,
) -> tuple[LogitTable, ...]:
    """Do as `predict_prepared`, under several vote rules: a crop that more than one keeps is still classified once.

    Args:
        classifier: the weights.
        prepared: crops that were aligned as the weights' card says.
        split: name of the split.
        rules: as in `predict_rules`.
        mirrored: as in `predict_rules`.
        progress: called after every chunk of images.

    Raises:
        DataError: if there is no such split or its files are damaged.
        UsageError: if the crops were aligned in another way, a rule is unknown, or the network knows none of the
        classes.
    """
    check_alignment(classifier, prepared)
    parts = [prepared.split(split, rule) for rule in rules]
    total = len({key for part in parts for key in part.keys})
    answers = Answers.none(classifier, mirrored)
    for part in parts:
        rows = [row for row, key in enumerate(part.keys) if key not in answers.rows]
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            answers.add(classifier, part.crops[chunk])
            for row in chunk:
                answers.name(part.keys[row], bool(part.found[row]))
            if progress is not None:
                progress(len(answers.rows), total)
    broken = {row.key: row.outcome.error for row in prepared.manifest() if row.split == split and row.outcome.error}
    samples = prepared_samples(prepared)
    return tuple(_table(classifier, samples, split, rule, broken, answers) for rule in rules)


def check_alignment(classifier: Classifier, prepared: Prepared) -> None:
    """Refuse crops that were not cut as a network expects them.

    Raises:
        UsageError: naming both alignments.
    """
    wanted, detector = alignment_of(classifier.card), classifier.card.alignment["detector"]
    if prepared.alignment != wanted or prepared.detector != NETWORK_SHA256:
        raise UsageError(
            f"{prepared.folder} was prepared with {_named(prepared.alignment)}, and {classifier.card.name} needs "
            f"{_named(wanted)} by {detector}: prepare the data set again, or give the data set itself"
        )


def prepared_samples(prepared: Prepared) -> Dataset:
    """The data set that a prepared set was made from, as far as its manifest tells: samples without their images."""
    card = CARDS.get(prepared.dataset)
    if card is None or card.classes != prepared.classes:
        card = DatasetCard(
            prepared.dataset, prepared.dataset, prepared.classes, votes=prepared.votes, note=prepared.note
        )
    samples = tuple(
        Sample(row.key, row.split, row.label, row.votes, row.subject, row.group) for row in prepared.manifest()
    )
    return Dataset(card, samples, FileImages(prepared.folder), prepared.note)


def _table(
    classifier: Classifier, dataset: Dataset, split: str, rule: str, broken: Mapping[str, str], answers: Answers
) -> LogitTable:
    """Put a table together: columns by name, and whether it is the official split. `broken` is key -> reason."""
    labels, classes = classifier.card.labels, dataset.classes
    part = dataset.select(split)
    keep, targets = part.targets(rule)
    kept = [part.samples[row].key for row in np.flatnonzero(keep)]
    readable = np.array([key in answers.rows for key in kept], dtype=np.bool_)
    rows = [answers.rows[key] for key in kept if key in answers.rows]
    unreadable = {key: broken[key] for key in kept if key in broken}
    official, message = _judge(dataset, split, rule, broken)
    mirrored = None if answers.mirrored is None else np.concatenate(answers.mirrored)[rows]
    return LogitTable(
        dataset=dataset.card.name,
        title=dataset.card.title,
        note=dataset.note,
        split=split,
        rule=rule if dataset.card.votes else None,
        classes=classes,
        keys=tuple(key for key in kept if key in answers.rows),
        logits=to_classes(np.concatenate(answers.logits)[rows], labels, classes),
        targets=targets[keep][readable],
        found=np.array(answers.found, dtype=np.bool_)[rows],
        temperature=classifier.card.temperature,
        unreadable=unreadable,
        unanswerable=tuple(name for name in classes if name not in labels),
        unasked=tuple(name for name in labels if name not in classes),
        official=official,
        official_message=message,
        mirrored=None if mirrored is None else to_classes(mirrored, labels, classes),
    )


def _judge(dataset: Dataset, split: str, rule: str, broken: Mapping[str, str]) -> tuple[bool, str]:
    """Decide whether a score on this split may be called official, and say why."""
    card = dataset.card
    scored_on = next((name for name in ("test", "val") if name in card.sizes), None)
    if scored_on is not None and split != scored_on:
        return False, f"{split} is not the split that {card.title} is scored on"
    sizes, counts = count_images(dataset, rule)
    # Class counts of sets of votes are written down for the majority rule alone.
    official = card.counts if not card.votes or rule == "majority" else {}
    return judge_official_test(dataset, sizes, counts, official, broken)


def _named(alignment: Alignment) -> str:
    return f"the template {alignment.template}, margin {alignment.margin:g}, {alignment.side_px} px"


def _prepare(
    dataset: Dataset, samples: Sequence[Sample], alignment: Alignment, workers: int
) -> Iterator[list[_Prepared]]:
    """Yield chunks of outcomes and crops in the order of the samples, working ahead of the caller."""
    # One thread a detection and a thread a core: images are independent, and small ones gain nothing from two cores.
    detector = RetinaFace(num_threads=1)

    def work(sample: Sample) -> _Prepared:
        try:
            hints = Hints(sample.landmarks, sample.bbox)
            return prepare_image(dataset.read(sample), hints, detector, alignment)
        except UnreadableImage as error:
            log.warning("%s cannot be read and is not scored: %s", sample.key, error)
            return unreadable(error), None

    waiting: deque[list[Future[_Prepared]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(samples), _CHUNK):
            waiting.append([pool.submit(work, sample) for sample in samples[start : start + _CHUNK]])
            if len(waiting) > _CHUNKS_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
