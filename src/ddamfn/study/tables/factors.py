"""One-factor-at-a-time ablations of a training recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddamfn.errors import ConfigError, UsageError
from ddamfn.objectives import SelfDistillation
from ddamfn.study.jobs import Plan, Row, Study, settings_text
from ddamfn.train import Run, override
from ddamfn.train.config import to_dict

BASE = "base"


@dataclass(frozen=True, eq=False)
class Factor:
    """One change of the base run."""

    group: str  # kind of change
    name: str  # unique in its group
    title: str
    settings: Mapping[str, Any]  # as `ddamfn.train.override` takes them
    source: str = ""  # citation or reason
    of_runs: bool = False  # whether its settings name other runs

    @property
    def key(self) -> str:
        """Name of the row."""
        return f"{self.group}-{self.name}"


_ALIGNED = (
    "No row leaves faces unaligned: a network that was trained on whole images could not be used on a photograph, "
    "where every face in it would be given the same crop."
)
_ADAMW = {"optimizer.name": "adamw", "optimizer.lr": 1e-3, "optimizer.weight_decay": 0.05}
_SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.05, "optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4}

_ROWS: Mapping[str, Sequence[tuple[Any, ...]]] = {
    "labels": (
        ("majority", "majority of the votes", {"data.rule": "majority"}),
        ("probability", "shares of the votes", {"data.rule": "probability"}, "Barsoum et al., ICMI 2016"),
        ("multi", "every class with enough votes", {"data.rule": "multi_target"}, "Barsoum et al., ICMI 2016"),
        ("vote-weight", "images weighted by their votes", {"data.vote_weight": True}),
        ("smoothing", "label smoothing 0.1", {"objective.label_smoothing": 0.1}, "Szegedy et al., CVPR 2016"),
        ("prior", "smoothed by the class prior, 0.2",
         {"objective.prior_smoothing": 0.2}, "Vo et al., IEEE Access 2020"),
    ),
    "optimization": (
        ("sam", "SAM, rho 0.05", {"optimizer.sam_rho": 0.05}, "Foret et al., ICLR 2021"),
        ("no-sam", "no SAM", {"optimizer.sam_rho": None}),
        ("ema", "moving average, 0.999", {"ema": 0.999}),
        ("no-ema", "no moving average", {"ema": None}),
        ("precise-bn", "statistics of 2,048 images as they are", {"precise_bn": 2048}, "Wu and Johnson, 2021"),
        ("no-precise-bn", "statistics of augmented batches", {"precise_bn": None}),
        ("sgd", "SGD with momentum", _SGD),
        ("adamw", "AdamW", _ADAMW, "Loshchilov and Hutter, ICLR 2019"),
        ("no-warmup", "no warm-up", {"schedule.warmup_epochs": 0.0}),
        ("no-decay", "no weight decay", {"optimizer.weight_decay": 0.0}),
        ("balanced", "every class drawn equally often", {"data.balanced": True}),
        ("logit-adjustment", "logit adjustment, tau 1", {"objective.logit_adjustment": 1.0}, "Menon et al., ICLR 2021"),
    ),
    "regularization": (
        ("erasing", "random erasing of every second image", {"augment.erase": 0.5}, "Zhong et al., AAAI 2020"),
        ("no-erasing", "no random erasing", {"augment.erase": 0.0}),
        ("mixup", "mixup 0.2", {"augment.mixup": 0.2}, "Zhang et al., ICLR 2018"),
        ("cutmix", "cutmix 1", {"augment.cutmix": 1.0}, "Yun et al., ICCV 2019"),
        ("no-flip", "no mirroring", {"augment.flip": 0.0}),
        ("no-affine", "no rotation, shift and scale", {"augment.affine": 0.0}),
        ("photometry", "stronger light, blur and noise",
         {"augment.brightness": (0.6, 1.4), "augment.gamma": 0.5, "augment.blur": 0.4, "augment.noise": 0.4}),
        ("flip-consistency", "flip consistency, lambda 5",
         {"objective.flip_consistency": 5.0}, "Zhang et al., ECCV 2022"),
        ("drop-path", "drop path 0.1", {"model.options.drop_path": 0.1}, "Huang et al., ECCV 2016"),
    ),
    "attention": (
        ("none", "attention loss off", {"objective.attention_weight": 0.0}),
        ("1e-4", "attention loss times 0.0001", {"objective.attention_weight": 0.0001}),
        ("1e-3", "attention loss times 0.001", {"objective.attention_weight": 0.001}),
        ("1e-2", "attention loss times 0.01", {"objective.attention_weight": 0.01}),
        ("0.1", "attention loss times 0.1, as published", {"objective.attention_weight": 0.1}),
        ("heads0", "no attention heads", {"model.options.num_heads": 0}),
    ),
    "alignment": (
        ("arcface", "wider crops: ArcFace's template", {"data.alignment.template": "arcface"}),
        ("frontal", "DDAMFN++'s frontal template", {"data.alignment.template": "ddamfn_frontal"}),
        ("five-pose", "nearest of five poses", {"data.alignment.template": "ddamfn_five_pose"}),
        ("margin", "crops a tenth wider", {"data.alignment.margin": 0.1}),
    ),
}  # fmt: skip
FACTORS = tuple(Factor(group, *row) for group, rows in _ROWS.items() for row in rows)
"""Changes that depend only on the base; those that it already has are no row of its table."""

GROUPS = tuple(dict.fromkeys((*(factor.group for factor in FACTORS), "pretraining", "distillation")))


@dataclass(frozen=True, kw_only=True)
class AblationOptions:
    """What selects the rows of a table of factors."""

    only: Sequence[str] = ()  # groups or rows; empty takes all
    pretrained: Sequence[str] = ()  # run folders or weights files to start from, one row each
    teachers: Sequence[str] = ()  # finished runs to distill from
    one_alignment: bool = False  # prepared data have a single alignment


def factors_of(base: Run, given: AblationOptions) -> tuple[Mapping[Factor, Run], Mapping[Factor, str]]:
    """Return the factors' runs in table order, and the reasons of the factors that do not fit the base.

    A row that was named, or one of a named run, must fit: otherwise it raises ConfigError.
    """
    found: dict[Factor, Run] = {}
    unfit: dict[Factor, str] = {}
    for factor in _chosen(base, given):
        try:
            run = override(base, factor.settings)
        except ConfigError as error:
            if factor.of_runs or _names(factor) & set(given.only):
                raise
            unfit[factor] = str(error)
            continue
        if run != base:
            found[factor] = run
    return found, unfit


def _chosen(base: Run, given: AblationOptions) -> list[Factor]:
    """Return the factors that are asked for and possible with these data; networks are built only for these."""
    offered = sorted(
        (*FACTORS, *_phases(base), *_erasing(base), *_self_distillation(base), *_of_runs(given)),
        key=lambda factor: GROUPS.index(factor.group),
    )
    offered = [
        factor
        for factor in offered
        if factor.settings.get("optimizer.name") != base.optimizer.name
        and not (given.one_alignment and factor.group == "alignment")
    ]
    names = {name for factor in offered for name in _names(factor)}
    if unknown := [name for name in given.only if name not in names]:
        hint = "; alignment needs the data set itself in place of a prepared one" if given.one_alignment else ""
        raise UsageError(f"no factor named {', '.join(unknown)}; this table has {', '.join(sorted(names))}{hint}")
    return [factor for factor in offered if not given.only or _names(factor) & set(given.only)]


def _names(factor: Factor) -> set[str]:
    return {factor.group, factor.key}


def factors(base: Run, plan: Plan, given: AblationOptions) -> Study:
    """Build the study of one-factor changes of the base run."""
    rows = [Row(name=BASE, title=f"baseline: {base.recipe}", run=base)]
    found, unfit = factors_of(base, given)
    for factor, run in found.items():
        note = f"{_shown(factor)}{'; ' + factor.source if factor.source else ''}."
        title = f"{factor.group}: {factor.title}"
        rows.append(Row(name=factor.key, title=title, run=run, note=note))
    notes = ["Each row is the baseline with the named settings changed, and nothing else."]
    notes += [f"Left out: {factor.group}, {factor.title}: {reason}." for factor, reason in unfit.items()]
    if any(factor.group == "alignment" for factor in found):
        notes.append(_ALIGNED)
    if given.one_alignment:
        notes.append("No rows of alignment: a prepared set has one alone. They need the data set itself.")
    return Study(
        name="ablation-factors",
        title="Factors, one at a time",
        rows=tuple(rows),
        reference=BASE,
        jobs=plan.repeat(rows, scored="valid"),
        notes=tuple(notes),
    )


def _phases(base: Run) -> tuple[Factor, ...]:
    """Return changes of the phases, which depend on the base."""
    twice = {f"phases.{i}.epochs": 2 * phase.epochs for i, phase in enumerate(base.phases)}
    last, epochs = base.phases[-1], base.epochs
    plain = {"side_px": last.side_px, "batch_size": last.batch_size, "lr_factor": 1.0}
    small = max(32, last.side_px // 2 // 16 * 16)
    growing = [{**plain, "epochs": epochs - epochs // 2, "side_px": small}, {**plain, "epochs": epochs // 2}]
    whole = [{**plain, "epochs": epochs}]
    progressive = Factor(
        "optimization", "progressive", f"half of the epochs at {small} px", {"phases": growing},
        "Howard's progressive resizing",
    )  # fmt: skip
    full = Factor("optimization", "full-size", f"all epochs at {last.side_px} px", {"phases": whole})
    changes = [Factor("optimization", "twice", "twice the epochs", twice)]
    if len({phase.side_px for phase in base.phases}) > 1:
        changes.append(full)
    elif len(base.phases) == 1 and epochs > 1 and small < last.side_px:
        changes.append(progressive)
    return (*changes, _twice_the_batch(base))


def _erasing(base: Run) -> tuple[Factor, ...]:
    """Return changes of the erasing color, if the base uses erasing."""
    if not base.augment.erase:
        return ()
    return (
        Factor("regularization", "any-gray", "random erasing in any gray", {"augment.erase_gray": None}),
        Factor("regularization", "one-gray", "random erasing in one gray", {"augment.erase_gray": 0.5}),
    )


def _twice_the_batch(base: Run) -> Factor:
    """Double the batch, with the learning rate and moving average scaled to match per image."""
    # In proportion for SGD; adaptive rules divide by the gradient's spread, which falls as the root.
    factor, rule = (2.0, "2") if base.optimizer.name == "sgd" else (2.0**0.5, "the root of 2")
    settings: dict[str, Any] = {f"phases.{i}.batch_size": 2 * phase.batch_size for i, phase in enumerate(base.phases)}
    settings["optimizer.lr"] = float(f"{base.optimizer.lr * factor:.3g}")
    if base.ema is not None:
        settings["ema"] = float(f"{base.ema**2:.6g}")
    source = "Goyal et al., 2017; Malladi et al., NeurIPS 2022; Busbridge et al., NeurIPS 2023"
    title = f"twice the batch, the learning rate times {rule}"
    return Factor("optimization", "twice-the-batch", title, settings, source)


def _self_distillation(base: Run) -> tuple[Factor, ...]:
    """Add a last phase of self-distillation or, where the base has one, use the votes alone."""
    if isinstance(base.distillation, SelfDistillation):
        return (Factor("distillation", "votes", "the votes alone in every phase", {"distillation": None}),)
    if base.distillation is not None:
        return ()
    last = base.phases[-1]
    again = replace(last, epochs=max(1, base.epochs // 2), lr_factor=last.lr_factor / 2)
    settings = {
        "distillation": {"name": "self", "flip_average": True},
        "schedule.restarts": True,
        "phases": [to_dict(phase) for phase in (*base.phases, again)],
    }
    title = "half as many epochs more, of self-distillation"
    return (Factor("distillation", "self", title, settings, "Furlanello et al., ICML 2018"),)


def _of_runs(given: AblationOptions) -> tuple[Factor, ...]:
    """Return changes that start from or distill from runs named for this table."""
    names = [Path(place).name for place in given.pretrained]
    if len(set(names)) < len(names):
        raise UsageError(f"duplicate name among the runs to begin from: {', '.join(names)}")
    changes = [
        Factor("pretraining", name, f"begun from {name}", {"initial": place}, of_runs=True)
        for name, place in zip(names, given.pretrained, strict=True)
    ]
    if given.teachers:
        taught = {"teachers": list(given.teachers)}
        title = f"distilled from {len(given.teachers)} teacher{'s' * (len(given.teachers) > 1)}"
        cached, source = f"{title}, with cached targets of unaugmented images", "Hinton et al., 2015"
        targets = {"distillation": {"name": "cached", **taught}}
        changes += [
            Factor("distillation", "teachers", title, {"distillation": taught}, source, of_runs=True),
            Factor("distillation", "cached", cached, targets, source, of_runs=True),
        ]
    return tuple(changes)


def _shown(factor: Factor) -> str:
    """Format settings as command-line arguments; of a run, only its name."""

    def text(value: Any) -> Any:
        if not factor.of_runs:
            return value
        if isinstance(value, dict):
            return {**value, "teachers": [Path(run).name for run in value["teachers"]]}
        return Path(str(value)).name

    return settings_text({name: text(value) for name, value in factor.settings.items()})
