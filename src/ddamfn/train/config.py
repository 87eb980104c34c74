"""A training run as frozen dataclasses: everything that decides its result, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from ddamfn.data import RULES
from ddamfn.errors import ConfigError
from ddamfn.faces import Alignment, Preprocessing
from ddamfn.labels import EXPRESSIONS
from ddamfn.objectives import (
    DDAMFNObjective,
    Distillation,
    LiveDistillation,
    Objective,
    PretextObjective,
    SelfDistillation,
)  # fmt: skip

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "exponential", "cosine"]

_FRONTAL = Alignment("ddamfn_frontal")
_RGB = Preprocessing("rgb", None)
_DEFAULT_OBJECTIVE = DDAMFNObjective()

MAX_SEED = 2**24
"""Every step's own seed, made from this one, must fit into torch's 64 bits."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, and its switches (see `ddamfn.models.create_network`)."""

    name: str = "ddamfn"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True)
class Data:
    """How images become tensors."""

    rule: str = "majority"
    """How votes become targets in the training split, for data sets that have votes (see `ddamfn.data.rules`)."""
    vote_weight: bool = False
    """Let training images count in the loss by the share of all votes that their leading expression has.

    Weights have a mean of 1 over the training split. For data sets with votes. Source: our own.
    """
    validation_rule: str = "majority"
    classes: tuple[str, ...] | None = None
    """Canonical names to learn, in this order; None takes the data set's own."""
    validation: str | None = None
    """Split to select on; None takes the set's own, or holds out a part of "train". Never the test split."""
    holdout: float = 0.1
    """Share of "train" that is held out, for a set without a validation split."""
    balanced: bool = False
    """Draw every class equally often, with replacement."""
    alignment: Alignment = _FRONTAL
    preprocessing: Preprocessing = _RGB
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for rule in (self.rule, self.validation_rule):
            _require(rule in RULES, f"no rule named {rule!r}; there are: {', '.join(RULES)}")
        if self.classes is not None:
            unknown = [name for name in self.classes if name not in EXPRESSIONS]
            _require(not unknown, f"no expression named {', '.join(unknown)}; there are: {', '.join(EXPRESSIONS)}")
            _require(len(set(self.classes)) == len(self.classes), f"duplicate class in {list(self.classes)}")
            _require(len(self.classes) > 1, "a network needs at least two classes")
        _require(0 < self.holdout < 1, f"holdout must lie between 0 and 1, not {self.holdout}")
        _require(self.validation != "test", "the test split is for `ddamfn eval` alone; select on another one")
        _require(all(deviation > 0 for deviation in self.std), f"std must be above 0, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes to a training image, in the order of the fields. Lengths are parts of the image's side.

    A probability of 0 or a range of nothing switches a change off.
    """

    flip: float = 0.5
    affine: float = 0.0
    """Probability of one random similarity transform: rotation, shift, scale."""
    rotate_deg: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    """Distances from the image's mean are multiplied by a factor from this range."""
    brightness: tuple[float, float] = (1.0, 1.0)
    """Pixels are multiplied by a factor from this range."""
    gamma: float = 0.0
    """Pixels are raised to a power drawn from 1 - g to 1 + g."""
    blur: float = 0.0
    """Probability of a Gaussian blur, sigma up to 2 % of the side."""
    noise: float = 0.0
    """Probability of Gaussian noise, deviation 6 gray levels of 255."""
    stretch: bool = False
    """Stretch what is dark or flat by now, as `data.preprocessing.stretch` says and prediction does."""
    erase: float = 0.0
    """Probability of random erasing."""
    erase_area: tuple[float, float] = (0.02, 0.25)
    erase_gray: float | None = 0.5
    """Gray level of what is erased, 0 to 1; None draws one for every rectangle."""
    mixup: float = 0.0
    """Alpha: images and targets are blended in pairs by a share from Beta(alpha, alpha); Zhang et al., ICLR 2018."""
    cutmix: float = 0.0
    """Alpha: likewise, a rectangle of the other image is pasted in (Yun et al., ICCV 2019).

    With both, each batch takes one of them with equal chance.
    """

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "blur", "noise", "erase"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} is a probability from 0 to 1, not {value}")
        for name in ("gamma", "shift"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must be at least 0 and below 1, not {value}")
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} is the alpha of a Beta distribution, 0 or more, not {value}")
        for name in ("scale", "contrast", "brightness", "erase_area"):
            low, high = getattr(self, name)
            _require(0 < low <= high, f"{name} must be two rising numbers above 0, not {(low, high)}")
        _require(self.erase_area[1] <= 1, f"erase_area is a share of the image, at most 1, not {self.erase_area}")
        gray = self.erase_gray
        _require(gray is None or 0 <= gray <= 1, f"erase_gray is a gray level from 0 to 1, or null, not {gray}")
        _require(0 <= self.rotate_deg <= 180, f"rotate_deg must be 0 to 180, not {self.rotate_deg}")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The rule of the weights' update."""

    name: OptimizerName = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    sam_rho: float | None = None
    """Neighborhood of sharpness-aware minimization (Foret et al., ICLR 2021); None is the plain optimizer."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None leaves it."""

    def __post_init__(self) -> None:
        _require(self.name in get_args(OptimizerName), f"no optimizer named {self.name!r}")
        _require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        _require(0 <= self.momentum < 1, f"momentum must be at least 0 and below 1, not {self.momentum}")
        _require(self.weight_decay >= 0, f"weight_decay must be 0 or more, not {self.weight_decay}")
        _require(self.clip_norm is None or self.clip_norm > 0, f"clip_norm must be above 0 or None: {self.clip_norm}")
        _require(self.sam_rho is None or self.sam_rho > 0, f"sam_rho must be above 0 or None, not {self.sam_rho}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over time, as a factor of the optimizer's own."""

    name: ScheduleName = "step"
    step_epochs: int = 10
    gamma: float = 0.1
    """Factor a step ("step") or an epoch ("exponential")."""
    warmup_epochs: float = 0.0
    """A straight rise from 0 at the beginning, counted in epochs."""
    final: float = 0.0
    """Where "cosine" ends."""
    restarts: bool = False
    """Restart, warm-up included, with every phase (Loshchilov and Hutter, ICLR 2017), scaled by its `lr_factor`."""

    def __post_init__(self) -> None:
        _require(self.name in get_args(ScheduleName), f"no schedule named {self.name!r}")
        _require(self.step_epochs > 0, f"step_epochs must be above 0, not {self.step_epochs}")
        _require(self.gamma > 0, f"gamma must be above 0, not {self.gamma}")
        _require(self.warmup_epochs >= 0, f"warmup_epochs must be 0 or more, not {self.warmup_epochs}")
        _require(0 <= self.final <= 1, f"final is a factor from 0 to 1, not {self.final}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some epochs at one image size: small images first make training several times cheaper."""

    epochs: int
    side_px: int = 112
    batch_size: int = 256
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        _require(self.epochs > 0, f"a phase needs at least one epoch, not {self.epochs}")
        _require(self.batch_size > 1, f"batch_size must be at least 2, not {self.batch_size}")
        _require(self.side_px >= 32, f"side_px must be at least 32, not {self.side_px}")
        _require(self.lr_factor > 0, f"lr_factor must be above 0, not {self.lr_factor}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run. Equal runs on equal data and machine give equal weights."""

    recipe: str
    model: Model = Model()
    data: Data = Data()
    augment: Augment = Augment()
    objective: Objective = _DEFAULT_OBJECTIVE
    distillation: Distillation | None = None
    """Other networks to learn from; None learns from the labels alone."""
    initial: str | None = None
    """A run's folder, a `.safetensors` or exported `.onnx` file, or the name of bundled weights.

    The network begins with every tensor of it that fits by name and shape.
    """
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    phases: tuple[Phase, ...] = (Phase(epochs=40),)
    ema: float | None = None
    """Decay a step of the weights' moving average, which is then what is validated and kept; None keeps the weights.

    It is smaller in the first steps, see `ddamfn.train.average`.
    """
    precise_bn: int | None = None
    """How many training images, unchanged, give the network that is validated and kept the statistics of its batch
    normalizations, after every epoch; None keeps those that ran along with the augmented batches.

    Worth trying where much is erased, see `ddamfn.train.average`.
    """
    compile: bool = False
    """Compile the network (torch.compile): faster steps after minutes of preparation. A CPU needs a C++ compiler."""
    seed: int = 0
    checkpoint_steps: int = 100
    """Steps between checkpoints inside an epoch; the end of an epoch is always one."""

    def __post_init__(self) -> None:
        _require(len(self.phases) > 0, "a run needs at least one phase")
        _require(self.ema is None or 0 < self.ema < 1, f"ema must lie between 0 and 1, not {self.ema}")
        _require(self.precise_bn is None or self.precise_bn > 1, f"precise_bn must be 2 or more: {self.precise_bn}")
        _require(self.checkpoint_steps > 0, f"checkpoint_steps must be above 0, not {self.checkpoint_steps}")
        _require(0 <= self.seed < MAX_SEED, f"seed must be 0 to {MAX_SEED - 1}, not {self.seed}")
        self._validate_combinations()

    def _validate_combinations(self) -> None:
        """Refuse settings that contradict each other."""
        objective, distillation = self.objective, self.distillation
        mixed = self.augment.mixup > 0 or self.augment.cutmix > 0
        largest, side_px = max(phase.side_px for phase in self.phases), self.data.alignment.side_px
        _require(
            not self.augment.stretch or self.data.preprocessing.stretch is not None,
            "augment.stretch repeats data.preprocessing.stretch, and there is none; set it, or leave the former out",
        )
        _require(
            not isinstance(objective, PretextObjective)
            or not (mixed or self.data.balanced or distillation is not None),
            f"{objective.name} is a pretext task without labels: leave out distillation, data.balanced, "
            "augment.mixup and augment.cutmix",
        )
        _require(
            not mixed or objective.takes_mixtures,
            f"the objective {objective.name} keeps a label or a center of every image, so it takes no mixtures; set "
            "augment.mixup and augment.cutmix to 0, or choose another objective.name",
        )
        _require(
            not mixed or distillation is None or isinstance(distillation, LiveDistillation),
            "distillation caches outputs for single images, not for mixtures; set augment.mixup and augment.cutmix to "
            "0, or choose distillation.name=live",
        )
        _require(
            not (isinstance(distillation, LiveDistillation) and distillation.teacher_sees_unerased)
            or self.augment.erase > 0,
            "distillation.teacher_sees_unerased needs augment.erase above 0; set it, or leave the former out",
        )
        _require(
            not isinstance(distillation, SelfDistillation) or len(self.phases) > 1,
            "distillation.name=self learns from the phase before, and there is one phase; add another to phases",
        )
        _require(
            not (self.data.balanced and getattr(objective, "logit_adjustment", 0) > 0),
            "data.balanced draws all classes equally often, so there is nothing to adjust logits for; switch it off, "
            "or set objective.logit_adjustment to 0",
        )
        _require(
            largest <= side_px,
            f"a phase asks for images of {largest} px, and the crops have {side_px} px; lower the phase's side_px or "
            "raise data.alignment.side_px",
        )

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def place_of(self, epoch: int) -> tuple[Phase, int]:
        """Phase of an epoch, and the epoch's number within it; both numbers are counted from 0."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        raise IndexError("past the last epoch")


def to_dict(config: Any) -> Any:
    """Plain JSON values of a configuration, field by field; a class with a `name` of its own is written with it.

    A field that is "written": "if set", by its metadata, is missing where it is None.
    """
    if is_dataclass(config):
        plain = {f.name: to_dict(getattr(config, f.name)) for f in fields(config)}
        for f in fields(config):
            if plain[f.name] is None and f.metadata.get("written") == "if set":
                del plain[f.name]
        name = getattr(type(config), "name", None)
        return plain if name is None or "name" in plain else {"name": name, **plain}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    return config
