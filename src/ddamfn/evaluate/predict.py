"""Runs weights over a split of a data set, from its images or from prepared crops, into tables of logits."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.data.catalog import CARDS, DatasetCard
from ddamfn.data.dataset import Dataset, FileImages, Progress, Sample
from ddamfn.data.doctor import count_images, judge_official_test
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.evaluate.logit_table import LogitTable, to_classes
from ddamfn.faces import NETWORK_SHA256, Alignment, RetinaFace
from ddamfn.preparation import Prepared
from ddamfn.preparation.image import Hints, Outcome, prepare_image, unreadable
from ddamfn.threads import map_ahead, num_cores

log = logging.getLogger(__name__)

_CHUNK = 64
_CHUNKS_AHEAD = 2

_Aligned = tuple[Outcome, NDArray[np.uint8] | None]
"""An image's outcome, and its crop (S, S, 3) RGB; None if it cannot be read."""


def predict_split(
    classifier: Classifier,
    data: Dataset | Prepared,
    split: str,
    rule: str = "majority",
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LogitTable:
    """Classify a split under one vote rule; see `predict_rules`."""
    (table,) = predict_rules(classifier, data, split, (rule,), workers=workers, progress=progress)
    return table


def predict_rules(
    classifier: Classifier,
    data: Dataset | Prepared,
    split: str,
    rules: Sequence[str],
    *,
    mirrored: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[LogitTable, ...]:
    """Classify a split under several vote rules, one table each; every image is classified at most once.

    A data set and a set prepared with the card's alignment give the same logits. `mirrored` adds the flipped crops
    for `LogitTable.flip_averaged`.
    """
    dataset = _dataset_of(data) if isinstance(data, Prepared) else data
    part = dataset.select(split)
    keep = np.any([part.targets(rule)[0] for rule in rules], axis=0)
    chosen = [sample for sample, kept in zip(part.samples, keep, strict=True) if kept]
    if isinstance(data, Prepared):
        check_alignment(classifier, data)
        chunks = _prepared_crops(data, split, chosen)
    else:
        chunks = _align(data, chosen, alignment_of(classifier.card), workers or num_cores())
    nothing = np.zeros((0, len(classifier.card.labels)), np.float32)
    outputs, done = _Outputs([nothing], [nothing] if mirrored else None), 0
    for chunk in chunks:
        outputs.add(classifier, chosen[done : done + len(chunk)], chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, len(chosen))
    return tuple(_table(classifier, dataset, split, rule, outputs) for rule in rules)


def check_alignment(classifier: Classifier, prepared: Prepared) -> None:
    """Raise UsageError, naming both alignments, if crops were not aligned as the network expects."""
    wanted, detector = alignment_of(classifier.card), classifier.card.alignment["detector"]
    if prepared.alignment != wanted or prepared.detector != NETWORK_SHA256:
        raise UsageError(
            f"{prepared.source} was prepared with {_named(prepared.alignment)}, and {classifier.card.name} needs "
            f"{_named(wanted)} by {detector}: prepare the data set again, or give the data set itself"
        )


def _named(alignment: Alignment) -> str:
    return f"the template {alignment.template}, margin {alignment.margin:g}, {alignment.side_px} px"


@dataclass(slots=True)
class _Outputs:
    """Logits (N, L) of the readable images, columns in the order of the card's labels, and those of mirrored crops."""

    logits: list[NDArray[np.float32]]
    mirrored: list[NDArray[np.float32]] | None
    rows: dict[str, int] = field(default_factory=dict)
    found: list[bool] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, classifier: Classifier, samples: Sequence[Sample], aligned: Sequence[_Aligned]) -> None:
        """Classify the crops of some images."""
        crops = []
        for sample, (outcome, pixels) in zip(samples, aligned, strict=True):
            if pixels is None:
                self.errors[sample.key] = outcome.error
            else:
                self.rows[sample.key] = len(self.rows)
                self.found.append(outcome.found)
                crops.append(pixels)
        if crops:
            batch = np.stack(crops)
            self.logits.append(classifier.classify(batch)[0])
            if self.mirrored is not None:
                self.mirrored.append(classifier.classify(np.ascontiguousarray(batch[:, :, ::-1]))[0])


def _table(classifier: Classifier, dataset: Dataset, split: str, rule: str, outputs: _Outputs) -> LogitTable:
    """Build a table: order columns by name, and decide whether it is the official split."""
    labels, classes = classifier.card.labels, dataset.classes
    part = dataset.select(split)
    keep, targets = part.targets(rule)
    kept = [part.samples[row].key for row in np.flatnonzero(keep)]
    readable = np.array([key in outputs.rows for key in kept], dtype=np.bool_)
    rows = [outputs.rows[key] for key in kept if key in outputs.rows]
    official, message = _judge(dataset, split, rule, outputs.errors)

    def columns(logits: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return to_classes(np.concatenate(logits)[rows], labels, classes)

    return LogitTable(
        dataset=dataset.card.name,
        title=dataset.card.title,
        note=dataset.note,
        split=split,
        rule=rule if dataset.card.votes else None,
        classes=classes,
        keys=tuple(key for key in kept if key in outputs.rows),
        logits=columns(outputs.logits),
        targets=targets[keep][readable],
        found=np.array(outputs.found, dtype=np.bool_)[rows],
        temperature=classifier.card.temperature,
        unreadable={key: outputs.errors[key] for key in kept if key in outputs.errors},
        unanswerable=tuple(name for name in classes if name not in labels),
        unasked=tuple(name for name in labels if name not in classes),
        official=official,
        official_message=message,
        mirrored=None if outputs.mirrored is None else columns(outputs.mirrored),
        votes=_votes([part.samples[row] for row in np.flatnonzero(keep) if part.samples[row].key in outputs.rows]),
    )


def _votes(samples: Sequence[Sample]) -> NDArray[np.float64] | None:
    """Return the votes (N, 10) of these images, None unless each has votes."""
    ballots = [sample.votes for sample in samples if sample.votes is not None]
    return np.array(ballots) if ballots and len(ballots) == len(samples) else None


def _judge(dataset: Dataset, split: str, rule: str, errors: Mapping[str, str]) -> tuple[bool, str]:
    """Decide whether a score on this split may be called official; return the reason too."""
    card = dataset.card
    scored_on = next((name for name in ("test", "val") if name in card.sizes), None)
    if scored_on is not None and split != scored_on:
        return False, f"{split} is not the split that {card.title} is scored on"
    sizes, counts = count_images(dataset, rule)
    # Class counts of sets of votes are written down for the majority rule alone.
    official = card.counts if not card.votes or rule == "majority" else {}
    return judge_official_test(dataset, sizes, counts, official, errors)


def _dataset_of(prepared: Prepared) -> Dataset:
    """Rebuild a prepared set's data set from its manifest: samples without their images."""
    card = CARDS.get(prepared.dataset)
    if card is None or card.classes != prepared.classes:
        card = DatasetCard(
            prepared.dataset, prepared.dataset, prepared.classes, votes=prepared.votes, note=prepared.note
        )
    samples = tuple(
        Sample(row.key, row.split, row.label, row.votes, row.subject, row.group) for row in prepared.manifest()
    )
    return Dataset(card, samples, FileImages(prepared.folder), prepared.note)


def _prepared_crops(prepared: Prepared, split: str, samples: Sequence[Sample]) -> Iterator[list[_Aligned]]:
    """Yield chunks of outcomes and stored crops in the order of the samples."""
    readable = prepared.split(split, rule=None)
    rows = {key: row for row, key in enumerate(readable.keys)}
    outcomes = {row.key: row.outcome for row in prepared.manifest() if row.split == split}
    for start in range(0, len(samples), _CHUNK):
        keys = [sample.key for sample in samples[start : start + _CHUNK]]
        yield [(outcomes[key], readable.crops[rows[key]] if key in rows else None) for key in keys]


def _align(dataset: Dataset, samples: Sequence[Sample], alignment: Alignment, workers: int) -> Iterator[list[_Aligned]]:
    """Yield chunks of outcomes and crops in the order of the samples, computed ahead of the caller."""
    # One thread per detection and a thread per core: images are independent, and small ones gain nothing from two.
    detector = RetinaFace(num_threads=1)

    def work(sample: Sample) -> _Aligned:
        try:
            hints = Hints(sample.landmarks, sample.bbox)
            return prepare_image(dataset.read(sample), hints, detector, alignment)
        except UnreadableImage as error:
            log.warning("%s cannot be read and is not scored: %s", sample.key, error)
            return unreadable(error), None

    crops = map_ahead(work, samples, workers=workers, ahead=_CHUNK * _CHUNKS_AHEAD)
    while chunk := list(islice(crops, _CHUNK)):
        yield chunk
