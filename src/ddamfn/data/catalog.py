"""Facts about each data set: its own class order, official splits and counts, license, paper.

A copy on disk is compared with its card, so that a subset never passes for the official test split. The card also maps
the set's class names to canonical expressions: by name, never by index.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ddamfn.errors import UnknownLabel
from ddamfn.labels import EXPRESSIONS, canonical

Counts = Mapping[str, Mapping[str, int]]
"""Split (or vote rule) -> class (or split) -> number of images."""


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """Facts about one data set: class order, official splits and counts, license, paper."""

    name: str  # as `open_dataset(kind=...)` takes it
    title: str
    own_classes: tuple[str, ...]  # as the set spells them, in its own order
    first_index: int = 0  # number of the first class in the set's files
    sizes: Mapping[str, int] = field(default_factory=dict)  # split -> official images, before any vote rule
    counts: Counts = field(default_factory=dict)  # split -> canonical class -> official images; of votes by majority
    variants: Mapping[str, tuple[Mapping[str, int], ...]] = field(default_factory=dict)  # counts of other releases
    rule_sizes: Counts = field(default_factory=dict)  # rule -> split -> official images that the rule keeps
    votes: bool = False  # annotators' votes instead of one label
    license: str = ""
    paper: str = ""  # what to cite
    note: str = ""  # what is needed to interpret a score

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names in the set's own order: the columns of its targets."""
        return tuple(canonical(name) for name in self.own_classes)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the official splits; empty where the set has none."""
        return tuple(self.sizes)

    def label(self, index: int) -> str:
        """Return the canonical name of a class by its number in the set's files."""
        position = index - self.first_index
        if not 0 <= position < len(self.own_classes):
            last = self.first_index + len(self.own_classes) - 1
            raise UnknownLabel(f"{self.title} has classes {self.first_index} to {last}, not {index}")
        return self.classes[position]


def _by_class(classes: str, *rows: str) -> dict[str, int]:
    return dict(zip(classes.split(), (int(n) for row in rows for n in row.split()), strict=True))


_FERPLUS_ORDER = " ".join(EXPRESSIONS)

FERPLUS = DatasetCard(
    name="ferplus",
    title="FERPlus",
    own_classes=EXPRESSIONS,
    sizes={"train": 28_558, "val": 3_579, "test": 3_573},
    counts={
        "train": _by_class(_FERPLUS_ORDER, "8733 7284 3136 3022 2098 116 536 120"),
        "val": _by_class(_FERPLUS_ORDER, "1180 862 411 348 289 25 60 16"),
        "test": _by_class(_FERPLUS_ORDER, "1083 892 394 382 269 16 86 15"),
    },
    rule_sizes={
        "majority": {"train": 25_045, "val": 3_191, "test": 3_137},
        "probability": {"train": 27_762, "val": 3_480, "test": 3_481},
        "multi_target": {"train": 27_667, "val": 3_472, "test": 3_466},
        "shares": {"train": 28_556, "val": 3_579, "test": 3_573},
        "argmax": {"train": 28_385, "val": 3_555, "test": 3_545},
        "argmax_all": {"train": 28_556, "val": 3_579, "test": 3_573},
    },
    votes=True,
    license="labels MIT; the images (FER2013) were collected by web search and their rights were never cleared",
    paper="Barsoum et al., Training deep networks for facial expression recognition with crowd-sourced label "
    "distribution, ICMI 2016",
    note="votes from the label.csv files; every score must name its vote rule and N",
)

FERPLUS_NEW = replace(
    FERPLUS,
    name="ferplus-fer2013new",
    counts={
        "train": _by_class(_FERPLUS_ORDER, "8739 7287 3149 3013 2099 119 532 119"),
        "val": _by_class(_FERPLUS_ORDER, "1182 865 415 351 287 24 62 13"),
        "test": _by_class(_FERPLUS_ORDER, "1089 893 396 384 273 18 83 16"),
    },
    # Measured on the official archives; slightly fewer images than rows, since four names occur in two rows.
    rule_sizes={
        "majority": {"train": 25_057, "val": 3_199, "test": 3_152},
        "probability": {"train": 27_772, "val": 3_476, "test": 3_480},
        "multi_target": {"train": 27_668, "val": 3_472, "test": 3_471},
        "shares": {"train": 28_556, "val": 3_579, "test": 3_572},
        "argmax": {"train": 28_386, "val": 3_553, "test": 3_545},
        "argmax_all": {"train": 28_556, "val": 3_579, "test": 3_572},
    },
    note="votes from fer2013new.csv; every score must name its vote rule and N",
)

RAFDB = DatasetCard(
    name="rafdb",
    title="RAF-DB basic",
    own_classes=("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"),
    first_index=1,
    sizes={"train": 12_271, "test": 3_068},
    counts={
        "train": _by_class("surprise fear disgust happiness sadness anger neutral", "1290 281 717 4772 1982 705 2524"),
        "test": _by_class("surprise fear disgust happiness sadness anger neutral", "329 74 160 1185 478 162 680"),
    },
    license="non-commercial research only, on request",
    paper="Li, Deng, Du, Reliable crowdsourcing and deep locality-preserving learning for expression recognition in "
    "the wild, CVPR 2017",
    note="no official validation split: hold one out of train, never select on test",
)

_AFFECTNET_ORDER = "neutral happiness sadness surprise fear disgust anger contempt"
_AFFECTNET_TRAIN = _by_class(_AFFECTNET_ORDER, "74874 134415 25459 14090 6378 3803 24882 3750")
_AFFECTNET_VAL = dict.fromkeys(_AFFECTNET_TRAIN, 500)
_AFFECTNET_VAL_2021 = {**_AFFECTNET_VAL, "disgust": 499}

AFFECTNET = DatasetCard(
    name="affectnet",
    title="AffectNet, 8 classes",
    own_classes=("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt"),
    sizes={"train": 287_651, "val": 4_000},
    counts={"train": _AFFECTNET_TRAIN, "val": _AFFECTNET_VAL},
    variants={"val": (_AFFECTNET_VAL_2021,)},
    license="non-commercial research only, on request",
    paper="Mollahosseini, Hasani, Mahoor, AffectNet: a database for facial expression, valence, and arousal computing "
    "in the wild, IEEE TAC 2019",
    note="no public test split, so papers report val; the 2021 release lacks one disgust image of val (3,999)",
)

AFFECTNET_7 = DatasetCard(
    name="affectnet7",
    title="AffectNet, 7 classes",
    own_classes=AFFECTNET.own_classes[:-1],
    sizes={"train": 283_901, "val": 3_500},
    counts={split: {k: n for k, n in row.items() if k != "contempt"} for split, row in AFFECTNET.counts.items()},
    variants={"val": ({k: n for k, n in _AFFECTNET_VAL_2021.items() if k != "contempt"},)},
    license=AFFECTNET.license,
    paper=AFFECTNET.paper,
    note="AffectNet without contempt; the 2021 release lacks one disgust image of val (3,499)",
)

_FER2013_ORDER = "anger disgust fear happiness sadness surprise neutral"

FER2013 = DatasetCard(
    name="fer2013",
    title="FER2013",
    own_classes=("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"),
    sizes={"train": 28_709, "val": 3_589, "test": 3_589},
    counts={
        "train": _by_class(_FER2013_ORDER, "3995 436 4097 7215 4830 3171 4965"),
        "val": _by_class(_FER2013_ORDER, "467 56 496 895 653 415 607"),
        "test": _by_class(_FER2013_ORDER, "491 55 528 879 594 416 626"),
    },
    license="collected by web search for a contest; the rights to the images were never cleared",
    paper="Goodfellow et al., Challenges in representation learning: a report on three machine learning contests, "
    "ICONIP 2013",
    note="the splits share exact and near duplicates; PublicTest is val and PrivateTest is test",
)

CKPLUS = DatasetCard(
    name="ckplus",
    title="CK+, last three frames",
    own_classes=("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"),
    first_index=1,
    sizes={"all": 981},
    counts={"all": _by_class("anger contempt disgust fear happiness sadness surprise", "135 54 177 75 207 84 249")},
    license="research only, on request",
    paper="Lucey et al., The extended Cohn-Kanade dataset (CK+), CVPR workshops 2010",
    note="no official split: use folds that keep each subject on one side (data.dataset.subject_folds)",
)

CARDS: dict[str, DatasetCard] = {
    card.name: card for card in (FERPLUS, FERPLUS_NEW, RAFDB, AFFECTNET, AFFECTNET_7, FER2013, CKPLUS)
}
"""Every data set that this package knows by name."""
