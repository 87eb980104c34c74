"""The card of a weights file: schema, reading, writing, calibration."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args, get_type_hints

from ddamfn.errors import UnknownLabel, UsageError, WeightsError
from ddamfn.files import open_regular, sha256_bytes, write_bytes
from ddamfn.labels import canonical
from ddamfn.weights.schema import mismatch

# No card comes near it; the largest has some hundred scores and one curve.
_MOST_BYTES = 2**24
_LARGEST_SIDE_PX, _MOST_HEADS = 1024, 64

# How protobuf begins the key "location": field 1, 8 bytes, each number in any length that it reads.
_BEFORE_LOCATION = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)\Z")
_LONGEST_NUMBER_BYTES = 10

CARD_FORMAT = 1
"""Version of the card's layout; a reader refuses newer ones."""

WeightFormat = Literal["onnx", "onnx-int8", "openvino", "safetensors", "hub-folder"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
"""What `ddamfn export` can write."""

WeightPrecision = Literal["float32", "float16"]
WEIGHT_PRECISIONS: tuple[WeightPrecision, ...] = get_args(WeightPrecision)
"""How an exported network can store its weights; it computes in float32 either way."""


class ArchitectureCard(TypedDict):
    """Which network it is: name for `create_model`, its options, and its cost (parameters, 10^9 multiply-adds)."""

    name: str
    num_classes: int
    num_heads: int
    parameters: int
    gmac: float
    options: NotRequired[Mapping[str, Any]]


class StretchCard(TypedDict):
    """How dark and flat crops are brightened, in the words of `ddamfn.faces.Stretch`."""

    least_range: int
    clip_percent: float
    largest_gain: int


class PreprocessingCard(TypedDict):
    """How crops look to the network: colors kept or gray; gray levels stretched; the side whose detail is kept.

    None, for the last two, leaves all as they are; a card without `stretch` has none.
    """

    color: Literal["rgb", "gray"]
    detail_px: int | None
    stretch: NotRequired[StretchCard | None]


class AlignmentCard(TypedDict):
    """How faces are cut out: the template's name, the margin (0.1 = 10 % more), the side in pixels, the detector."""

    template: str
    margin: float
    side_px: int
    detector: str


class MajorityCard(TypedDict):
    """Calibration error on those images of which a majority of the annotators agree; see `CalibrationCard`."""

    n: int
    ece_before: float
    ece_after: float


class CalibrationCard(TypedDict):
    """Confidence measured on the `n` images of the split that the temperature was fitted on, under a vote `rule`.

    `ece_before` and `ece_after` are the expected calibration error over `bins` slices without and with the temperature.
    The four lists are a curve and belong together entry by entry, lowest threshold first: predicting only at a
    confidence of at least `thresholds` (0 to 1) covers the share `coverage`, of which the share `precision` is correct;
    `precision_low` is the lower end of its 95 % Wilson interval, rounded down. `majority`, for images with votes, is
    the error on those that the rule of that name keeps.
    """

    split: str
    rule: str
    n: int
    bins: int
    ece_before: float
    ece_after: float
    thresholds: list[float]
    coverage: list[float]
    precision: list[float]
    precision_low: list[float]
    majority: NotRequired[MajorityCard]


class PriorTrade(TypedDict):
    """What an expected mix of equal shares costs and gains on the validation images as they are, at one weight."""

    weight: float
    correct: int
    accuracy: float
    mean_class_accuracy: float
    recall: float
    balanced_nll: float


class ClassPriorCard(TypedDict):
    """Shares of the expressions in training, by name, and the `weight` (0 to 1) with which another mix counts.

    See `ddamfn.weights.prior`. `trade` is measured on the `n` validation images of `rule` under equal shares; its
    `recall` is of the expression `recall_of`, the most frequent one in training, and `balanced_nll`, the mean over the
    classes of -log p, is what the weight minimizes.
    """

    shares: dict[str, float]
    weight: float
    split: NotRequired[str]
    rule: NotRequired[str]
    n: NotRequired[int]
    recall_of: NotRequired[str]
    trade: NotRequired[list[PriorTrade]]


@dataclass(frozen=True, slots=True)
class Card:
    """A weights file's card.

    Attributes:
        name: how users call the weights, such as `ddamfn-ferplus`.
        architecture: the network and its cost.
        labels: canonical expressions in the order of the network's outputs.
        input_side_px: side of the square input.
        preprocessing: color, light and detail of the crops.
        mean: per RGB channel, of pixels divided by 255.
        std: per RGB channel, of pixels divided by 255.
        alignment: how faces are cut out.
        temperature: logits are divided by it before the softmax; fitted on validation images; > 0.
        training: what the weights were trained on and how (data, rule, recipe, seed, commit, epochs, selection, ...).
        scores: measured results, one dictionary each (split, rule, n, correct, accuracy, ci95, ...).
        license: SPDX identifier of the weights' license.
        rights: what is known of the rights in the data that they were trained on, and what follows for users.
        file: name of the ONNX file beside the card.
        sha256: of the ONNX file, 64 lower-case hexadecimal digits.
        precision: of the stored weights. float16 is converted to float32 before computing; int8 computes its large
            convolutions in integers.
        calibration: how well the confidence fits on validation, and which threshold keeps which precision; None if it
            was not measured.
        class_prior: shares of the classes in training, for images of another mix; None if they were not recorded.
        export: of a file made from other weights: its format, the command, what it was made from, and what its gate
            measured; None for weights that came straight from a run.
    """

    name: str
    architecture: ArchitectureCard
    labels: tuple[str, ...]
    input_side_px: int
    preprocessing: PreprocessingCard
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    alignment: AlignmentCard
    temperature: float
    training: Mapping[str, Any]
    scores: tuple[Mapping[str, Any], ...]
    license: str
    rights: str
    file: str
    sha256: str
    precision: WeightPrecision | Literal["int8"] = "float32"
    calibration: CalibrationCard | None = None
    class_prior: ClassPriorCard | None = None
    export: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the fields that a program relies on.

        Raises:
            WeightsError: naming the card and the invalid field.
        """
        problem = _problem(self)
        if problem:
            raise WeightsError(f"the card of {self.name!r} is not usable: {problem}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dictionaries, ready for JSON."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"format": CARD_FORMAT} | plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Card":
        """Build from what `to_dict` returned; unknown keys are ignored, so that a card may hold more.

        Raises:
            WeightsError: if a field is missing, has the wrong kind, or the layout is newer than this program.
        """
        name = plain.get("name", "?")
        layout = plain.get("format")
        if layout != CARD_FORMAT:
            raise WeightsError(
                f"the card of {name!r} has layout {layout!r}, this program reads {CARD_FORMAT}: update ddamfn"
            )
        missing = [entry.name for entry in fields(cls) if entry.name not in plain and entry.default is MISSING]
        if missing:
            raise WeightsError(f"the card of {name!r} lacks {', '.join(missing)}: export the weights again")
        values = {entry.name: plain[entry.name] for entry in fields(cls) if entry.name in plain}
        try:
            for key in ("labels", "mean", "std", "scores"):
                values[key] = tuple(values[key])
            return cls(**values)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise WeightsError(f"the card of {name!r} has a field of the wrong kind: {error}") from None

    def score(self, split: str = "test") -> Mapping[str, Any] | None:
        """Return the first measured score on `split`, or None if there is none."""
        return next((score for score in self.scores if score.get("split") == split), None)

    def with_score(self, score: Mapping[str, Any]) -> "Card":
        """Return the card with one more measured score, in place of one of the same data set, split and rule."""
        same = ("dataset", "split", "rule")
        others = [old for old in self.scores if any(old.get(key) != score.get(key) for key in same)]
        return replace(self, scores=(*others, dict(score)))


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read a card.

    Raises:
        WeightsError: if the file is missing, is no JSON, or is not a usable card.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise WeightsError(f"{path} is not a weights card: larger than {_MOST_BYTES:,} bytes")
        plain = json.loads(content)
    except OSError as error:
        raise WeightsError(f"cannot read the card {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise WeightsError(f"{path} is not a weights card: {error}") from None
    except RecursionError:
        raise WeightsError(f"{path} is not a weights card: nested too deep") from None
    if not isinstance(plain, dict):
        raise WeightsError(f"{path} is not a weights card: it holds no JSON object")
    return Card.from_dict(plain)


def write_card(card: Card, path: str | os.PathLike[str]) -> None:
    """Write a card as readable JSON; a reader never sees half of it.

    Raises:
        WeightsError: if the file cannot be written.
    """
    try:
        write_bytes(path, _readable(card.to_dict()).encode())
    except OSError as error:
        raise WeightsError(f"cannot write the card {path}: {error.strerror or error}") from None


def verify(card: Card, network: str | os.PathLike[str]) -> bytes:
    """Read a network and check it against its card.

    Returns:
        The file's content, so that what was checked is what gets used.

    Raises:
        WeightsError: if the file is missing or is not the one that the card describes.
    """
    try:
        content = Path(network).read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the network {network}: {error.strerror or error}") from None
    if sha256_bytes(content) != card.sha256:
        raise WeightsError(f"{network} is damaged or not the file its card describes (sha256 differs): get it again")
    if _has_parts_elsewhere(content):
        raise WeightsError(f"{network} keeps parts of the network in other files, and only one file is read")
    return content


def _has_parts_elsewhere(network: bytes) -> bool:
    """Whether an ONNX network names other files, by the key "location" of its `external_data`."""
    place = network.find(b"location")
    while place >= 0:
        if _BEFORE_LOCATION.search(network[max(0, place - 2 * _LONGEST_NUMBER_BYTES) : place]):
            return True
        place = network.find(b"location", place + 1)
    return False


def threshold_for(calibration: CalibrationCard, precision: float) -> float:
    """Return the lowest confidence threshold at which predictions keep a precision.

    A precision counts as kept where the lower end of its 95 % Wilson interval reaches it: a few confident predictions
    that happen to be correct are no proof, and a threshold chosen on the bare share would often disappoint elsewhere.

    Args:
        calibration: from a card.
        precision: the share of predictions that must be correct, above 0 to 1.

    Returns:
        0 to 1; predictions below it are to be withheld. 0 withholds none.

    Raises:
        UsageError: the precision is out of range, or higher than what the curve reaches.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"the precision to keep must be above 0 and at most 1, not {precision}")
    low = calibration["precision_low"]
    reached = next((row for row, value in enumerate(low) if value >= precision), None)
    if reached is not None:
        return calibration["thresholds"][reached]
    best = max(low)
    share = calibration["coverage"][low.index(best)]
    raise UsageError(
        f"a precision of {precision:g} is not reached on the {calibration['n']:,} validation images: ask for at most "
        f"{best:g}, which covers {share:.1%} of the faces"
    )


def _readable(plain: Mapping[str, Any]) -> str:
    """Return indented JSON with every list of numbers or names on one line."""
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    # A line break never stands inside a JSON string, so brackets that follow or precede one are brackets of lists.
    inner_list, line_break = re.compile(r"\[\n *([^\[\]{}]*)\n *\]"), re.compile(r"\n *")
    return inner_list.sub(lambda found: f"[{line_break.sub(' ', found.group(1))}]", text) + "\n"


def _problem(card: Card) -> str | None:
    """Name the first invalid field."""
    hints = get_type_hints(Card, include_extras=True)
    found = (mismatch(getattr(card, entry.name), hints[entry.name], entry.name) for entry in fields(card))
    wrong = next(filter(None, found), None)
    if wrong is not None:
        return wrong
    try:
        foreign = [label for label in card.labels if canonical(label) != label]
    except UnknownLabel as error:
        return str(error)
    outputs = card.architecture["num_classes"]
    checks = (
        (not foreign, f"labels must be canonical names, not {', '.join(foreign)}"),
        (len(set(card.labels)) == len(card.labels), "a label is listed twice"),
        (len(card.labels) == outputs, f"{len(card.labels)} labels for {outputs} outputs"),
        (all(value > 0 for value in card.std), "std must be above 0"),
        (card.temperature > 0, "temperature must be above 0"),
        (card.input_side_px == card.alignment["side_px"], "input_side_px and alignment.side_px must agree"),
        (0 < card.input_side_px <= _LARGEST_SIDE_PX, f"input_side_px must be 1 to {_LARGEST_SIDE_PX}"),
        (0 <= card.architecture["num_heads"] <= _MOST_HEADS, f"architecture.num_heads must be 0 to {_MOST_HEADS}"),
        (all({"split", "accuracy"} <= set(score) for score in card.scores), "a score lacks its split or accuracy"),
        (card.file == Path(card.file).name != "", "file must be a plain file name"),
    )
    wrong = next((message for fine, message in checks if not fine), None)
    if wrong is None and card.calibration is not None:
        wrong = _calibration_problem(card.calibration)
    if wrong is None and card.class_prior is not None:
        wrong = _class_prior_problem(card.class_prior, card.labels)
    return wrong


_CURVE = ("thresholds", "coverage", "precision", "precision_low")


def _calibration_problem(calibration: Mapping[str, Any]) -> str | None:
    """Describe what is invalid in a card's `calibration`, whose fields have their types; None if nothing."""
    columns = [cast(list[float], calibration[name]) for name in _CURVE]
    if len({len(column) for column in columns}) > 1 or not columns[0]:
        return "the lists of calibration must be equally long and not empty"
    if not all(0 <= value <= 1 for column in columns for value in column):
        return "the numbers in the lists of calibration must lie in 0 to 1"
    if columns[0] != sorted(columns[0]):
        return "calibration.thresholds must rise"
    return None


def _class_prior_problem(prior: Mapping[str, Any], labels: tuple[str, ...]) -> str | None:
    """Describe what is invalid in a card's `class_prior`, whose fields have their types; None if nothing."""
    if set(prior["shares"]) != set(labels):
        return "class_prior.shares must name each label once"
    if not all(0 < share <= 1 for share in prior["shares"].values()):
        return "class_prior.shares must lie above 0 and at most at 1"
    return None if 0 <= prior["weight"] <= 1 else "class_prior.weight must lie in 0 to 1"
