"""Ablation tables of the paper: backbones, DDAN, heads, attention loss, mixed kernels, coordinate attention."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ddamfn.errors import UsageError
from ddamfn.objectives import DDAMFNObjective
from ddamfn.study.catalog import TABLES
from ddamfn.study.jobs import Plan, Row, Study, attention_note
from ddamfn.train import Model, Run


def _row(run: Run, network: str, name: str, title: str, reported: float | None = None, **options: Any) -> Row:
    """Build a row that trains another network in place of the run's."""
    model = Model(name=network, options=MappingProxyType(options))
    return Row(name=name, title=title, run=replace(run, model=model), reported=reported)


def _full(run: Run, reported: float | None = 91.35) -> Row:
    return _row(run, "ddamfn", "ddamfn", "DDAMFN, 2 heads", reported, num_heads=2)


def backbones(run: Run) -> tuple[Row, ...]:
    """The backbones, each with a plain classifier, against DDAMFN."""
    return (
        _row(run, "mobilefacenet", "mobilefacenet", "MobileFaceNet", 87.52),
        _row(run, "iresnet18", "iresnet18", "ResNet-18", 87.47),
        _row(run, "iresnet50", "iresnet50", "ResNet-50", 89.63),
        _row(run, "mfn", "mfn", "MFN", 90.32),
        _full(run),
    )


def ddan(run: Run) -> tuple[Row, ...]:
    """With and without the dual-direction attention network."""
    return (_row(run, "mfn", "mfn", "without DDAN (MFN)", 90.32), _full(run))


def heads(run: Run) -> tuple[Row, ...]:
    """Number of heads. The published row 0 is MFN with its embedding; the trunk without heads is shown too."""
    without = _row(run, "ddamfn", "heads0", "0 heads (no embedding)", num_heads=0)
    return (
        _row(run, "mfn", "heads0-mfn", "0 heads (MFN, as on the slides)", 90.32),
        replace(without, note="DDAMFN without heads: trunk, GDConv and linear layer; not on the slides."),
        _row(run, "ddamfn", "heads1", "1 head", 90.67, num_heads=1),
        _row(run, "ddamfn", "heads2", "2 heads", 91.35, num_heads=2),
        _row(run, "ddamfn", "heads3", "3 heads", 91.11, num_heads=3),
        _row(run, "ddamfn", "heads4", "4 heads", 91.21, num_heads=4),
    )


def attention_loss(run: Run) -> tuple[Row, ...]:
    """The attention loss switched off, as published, as in the authors' program, and weaker."""
    full, weaker = _full(run, None), "Not on the slides: from random weights 0.1 may be too much."

    def row(name: str, title: str, note: str, **settings: Any) -> Row:
        return Row(name=name, title=title, note=note, run=replace(full.run, objective=DDAMFNObjective(**settings)))

    printed = "As printed; half of the authors' program's with two heads."
    return (
        row("none", "no attention loss", "", attention_weight=0.0),
        row("slide-sum", "0.1 / sum over ordered pairs", printed, attention_form="slide_sum"),
        row("mean-pair", "0.1 / mean over pairs", "As in the authors' program.", attention_form="mean_pair"),
        row("mean-pair-0.01", "0.01 / mean over pairs", weaker, attention_weight=0.01),
        row("mean-pair-0.001", "0.001 / mean over pairs", weaker, attention_weight=0.001),
    )


def mixed_kernels(run: Run) -> tuple[Row, ...]:
    """Parallel depthwise kernels of 3 to 9 px, against 3x3 alone."""
    plain = _row(run, "ddamfn", "plain", "3x3 kernels alone", num_heads=2, mixed_kernels=False)
    return (plain, _full(run, None))


def coordinate_attention(run: Run) -> tuple[Row, ...]:
    """Coordinate attention inside every bottleneck of the trunk, or none there."""
    plain = _row(run, "ddamfn", "none", "no coordinate attention", num_heads=2, coordinate_attention=False)
    return (plain, _full(run, None))


_ROWS: Mapping[str, Callable[[Run], tuple[Row, ...]]] = MappingProxyType(
    {
        rows.__name__.replace("_", "-"): rows
        for rows in (backbones, ddan, heads, attention_loss, mixed_kernels, coordinate_attention)
    }
)


def ablation(name: str, base: Run, plan: Plan) -> Study:
    """Build the study of one of `ddamfn.study.catalog.TABLES`."""
    if name not in TABLES:
        raise UsageError(f"no table named {name!r}; there are: {', '.join(TABLES)}")
    table, rows = TABLES[name], _ROWS[name](base)
    return Study(
        name=f"ablation-{name}",
        title=table.title,
        rows=rows,
        reference=table.reference,
        jobs=plan.repeat(rows),
        notes=(*table.notes, *(() if name == "attention-loss" else attention_note(base))),
    )
