"""The result of a measurement of robustness: figures with n, N and intervals, and a verdict on each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddamfn.evaluate.metrics import wilson_interval
from ddamfn.evaluate.scores import Scores

LARGEST_MILD_DROP = 0.03
"""Accuracy that weights may lose at a mild level."""
LARGEST_FLIP_RATE = 0.05
"""How often a face's expression may change under the mild landmark jitter."""

HOLDS, LIKELY, OPEN, FAILS = "holds", "holds, not proven", "over, may be chance", "fails"
"""Verdicts: the whole interval lies within the limit; the figure does, the interval reaches beyond it; the figure is
over, the interval reaches within; the whole interval is over."""


def judge(figure: float, ci95: Sequence[float], limit: float) -> str:
    """Return the verdict on a figure that must not exceed a limit; random variation is not called a failure."""
    if figure > limit:
        return FAILS if ci95[0] > limit else OPEN
    return HOLDS if ci95[1] <= limit else LIKELY


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One change at one strength, on the same faces as the clean ones.

    Attributes:
        perturbation: name of the change.
        level: one of `LEVELS`.
        strength: in words.
        scores: of the changed faces, all draws together; its interval takes them for independent, `ci95` does not.
        drop: accuracy lost against the clean faces, -1..1.
        drop_ci95: its paired interval, over faces.
        agreeing: changed faces, of `scores.n`, that are answered as the clean ones are.
        draws: how often each face was changed, with other random numbers each time.
    """

    perturbation: str
    level: str
    strength: str
    scores: Scores
    drop: float
    drop_ci95: tuple[float, float]
    agreeing: int
    draws: int = 1

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy, 0..1; every face counts once, however often it was drawn."""
        return self._over_faces(self.scores.correct)

    @property
    def agreement_ci95(self) -> tuple[float, float]:
        """The same for the agreement."""
        return self._over_faces(self.agreeing)

    def _over_faces(self, count: int) -> tuple[float, float]:
        return wilson_interval(round(count / self.draws), self.scores.n // self.draws)

    @property
    def wording(self) -> str:
        """The strength in words, and how often it was drawn."""
        return self.strength if self.draws == 1 else f"{self.strength}, {self.draws} draws"

    @property
    def agreement(self) -> float:
        """Share of the faces that are answered as the clean ones are, 0..1."""
        return self.agreeing / self.scores.n

    @property
    def verdict(self) -> str | None:
        """Whether a mild level loses more than is allowed; None for the other levels."""
        return judge(self.drop, self.drop_ci95, LARGEST_MILD_DROP) if self.level == "mild" else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        scores = self.scores
        return {
            **{name: getattr(self, name) for name in ("perturbation", "level", "strength")},
            **{name: getattr(scores, name) for name in ("n", "correct", "accuracy")},
            "draws": self.draws,
            "ci95": list(self.ci95),
            "mean_class_accuracy": scores.mean_class_accuracy,
            "drop": self.drop,
            "drop_ci95": list(self.drop_ci95),
            "agreeing": self.agreeing,
            "agreement": self.agreement,
            "agreement_ci95": list(self.agreement_ci95),
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class FlipRate:
    """How often an answer changes when the landmarks are a little off.

    Attributes:
        strength: of the jitter, in words.
        draws: how often each face was jittered.
        n: faces.
        flips: jittered faces, of `draws` times `n`, that are answered in another way than the clean one.
        rate: flips / (draws n), 0..1.
        ci95: interval of the rate over faces; the draws of one face do not count as independent.
        ever: faces whose answer changed at least once.
    """

    strength: str
    draws: int
    n: int
    flips: int
    rate: float
    ci95: tuple[float, float]
    ever: int

    @property
    def verdict(self) -> str:
        """Whether answers change more often than is allowed."""
        return judge(self.rate, self.ci95, LARGEST_FLIP_RATE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Robustness:
    """The whole measurement.

    Attributes:
        weights: name of the weights.
        sha256: of their file.
        title: the data set's name for people.
        note: which copy of it.
        split: the split.
        rule: the vote rule, None for sets with one label an image.
        total: images that the rule keeps.
        chosen: images of these that were looked at.
        faceless: chosen images in which no face was found; they are left out.
        unreadable: chosen images that could not be read; they are left out.
        seed: of all random numbers.
        clean: scores of the unchanged faces.
        levels: every change at every strength.
        flips: under the mild landmark jitter; None without images to cut faces from.
        skipped: name of a change that was not measured -> why.
    """

    weights: str
    sha256: str
    title: str
    note: str
    split: str
    rule: str | None
    total: int
    chosen: int
    faceless: int
    unreadable: int
    seed: int
    clean: Scores
    levels: tuple[LevelResult, ...]
    flips: FlipRate | None
    skipped: Mapping[str, str]

    def verdicts(self) -> tuple[str, ...]:
        """The verdicts on the mild levels, in their order, and on the flips."""
        mild = tuple(entry.verdict for entry in self.levels if entry.verdict is not None)
        return mild if self.flips is None else (*mild, self.flips.verdict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = (
            "weights",
            "sha256",
            "title",
            "note",
            "split",
            "rule",
            "total",
            "chosen",
            "faceless",
            "unreadable",
            "seed",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "clean": self.clean.to_dict(),
            "levels": [entry.to_dict() for entry in self.levels],
            "flips": None if self.flips is None else self.flips.to_dict(),
            "skipped": dict(self.skipped),
        }
