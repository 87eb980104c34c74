"""The result of a robustness measurement: figures with n, N and intervals, and a verdict on each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddamfn.evaluate.metrics import wilson_interval
from ddamfn.evaluate.scores import Scores

LARGEST_MILD_DROP = 0.03
"""Largest accuracy drop allowed at a mild level."""
LARGEST_FLIP_RATE = 0.05
"""Largest share of faces whose expression may change under the mild landmark jitter."""

HOLDS, LIKELY, OPEN, FAILS = "holds", "holds, not proven", "over, may be chance", "fails"
"""Verdicts: the whole interval lies within the limit; the figure does, the interval reaches beyond it; the figure is
over, the interval reaches within; the whole interval is over."""


def judge(figure: float, ci95: Sequence[float], limit: float) -> str:
    """Return the verdict on a figure that must not exceed a limit; random variation does not count as a failure."""
    if figure > limit:
        return FAILS if ci95[0] > limit else OPEN
    return HOLDS if ci95[1] <= limit else LIKELY


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One perturbation at one strength, on the same faces as the clean ones."""

    perturbation: str  # name
    level: str  # of `LEVELS`
    strength: str  # for readers
    scores: Scores  # all draws, taken as independent; `ci95` is not
    drop: float  # clean accuracy less perturbed, -1..1
    drop_ci95: tuple[float, float]  # paired, over faces
    agreeing: int  # of `scores.n`, predicted as the clean face
    draws: int = 1  # per face

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy, 0..1; every face counts once, however many draws it has."""
        return self._over_faces(self.scores.correct)

    @property
    def agreement_ci95(self) -> tuple[float, float]:
        """Wilson's interval of the agreement, with every face counted once."""
        return self._over_faces(self.agreeing)

    def _over_faces(self, count: int) -> tuple[float, float]:
        return wilson_interval(round(count / self.draws), self.scores.n // self.draws)

    @property
    def wording(self) -> str:
        """The strength for readers, and the number of draws."""
        return self.strength if self.draws == 1 else f"{self.strength}, {self.draws} draws"

    @property
    def agreement(self) -> float:
        """Share of the faces predicted as the clean ones are, 0..1."""
        return self.agreeing / self.scores.n

    @property
    def verdict(self) -> str | None:
        """Whether a mild level loses more than allowed; None for the other levels."""
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
    """How often a prediction changes under a slight jitter of the landmarks."""

    strength: str  # of the jitter, for readers
    draws: int  # per face
    n: int  # faces
    flips: int  # changed predictions, of draws * n
    rate: float  # flips / (draws * n)
    ci95: tuple[float, float]  # over faces, not draws
    ever: int  # faces changed at least once

    @property
    def verdict(self) -> str:
        """Whether predictions change more often than allowed."""
        return judge(self.rate, self.ci95, LARGEST_FLIP_RATE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Robustness:
    """The whole measurement."""

    weights: str  # name
    sha256: str  # of the weights file
    preprocessing: Mapping[str, Any]  # on the card of the weights
    title: str  # the data set's full name
    note: str  # which copy of it
    split: str
    rule: str | None  # None for sets with one label per image
    total: int  # images that the rule keeps
    chosen: int  # images read
    faceless: int  # left out: no face was found
    unreadable: int  # left out
    seed: int
    clean: Scores  # scores of the unchanged faces
    levels: tuple[LevelResult, ...]  # every perturbation at every strength
    flips: FlipRate | None  # under mild landmark jitter; None without images
    skipped: Mapping[str, str]  # perturbation -> reason

    def verdicts(self) -> tuple[str, ...]:
        """The verdicts on the mild levels, in their order, and on the flips."""
        mild = tuple(entry.verdict for entry in self.levels if entry.verdict is not None)
        return mild if self.flips is None else (*mild, self.flips.verdict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = (
            "weights",
            "sha256",
            "preprocessing",
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
