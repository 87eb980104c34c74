"""Ablation tables of the paper: backbones, DDAN, heads, attention loss, mixed kernels, coordinate attention."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ddamfn.errors import UsageError
from ddamfn.objectives import DDAMFNObjective
from ddamfn.study.jobs import Plan, Row, Study, attention_note, repeat
from ddamfn.train import Model, Run

_UNITS = (
    "The slides print DDAMFN's parameters in 10^6 and the other four in 2^20; `ddamfn study complexity` shows both."
)
_GAIN = "The slides give DDAN's gain as +1.06 points; their own figures, 91.35 and 90.32, differ by 1.03."


def _with(run: Run, name: str, **options: Any) -> Run:
    return replace(run, model=Model(name=name, options=MappingProxyType(options)))


def _full(run: Run, slides: float | None = 91.35) -> Row:
    return Row(name="ddamfn", title="DDAMFN, 2 heads", run=_with(run, "ddamfn", num_heads=2), slides=slides)


def backbones(run: Run) -> tuple[Row, ...]:
    """The backbones, each with a plain classifier, against DDAMFN."""
    names = (
        ("mobilefacenet", "MobileFaceNet", 87.52), ("iresnet18", "ResNet-18", 87.47), ("iresnet50", "ResNet-50", 89.63),
        ("mfn", "MFN", 90.32),
    )  # fmt: skip
    rows = [Row(name=name, title=title, run=_with(run, name), slides=slides) for name, title, slides in names]
    return (*rows, _full(run))


def ddan(run: Run) -> tuple[Row, ...]:
    """With the dual-direction attention network and without."""
    return (Row(name="mfn", title="without DDAN (MFN)", run=_with(run, "mfn"), slides=90.32), _full(run))


def heads(run: Run) -> tuple[Row, ...]:
    """Number of heads. The slides' row 0 is MFN with its embedding; the trunk without heads stands beside it."""
    slides = {1: 90.67, 2: 91.35, 3: 91.11, 4: 91.21}
    rows = [
        Row(name="heads0-mfn", title="0 heads (MFN, as on the slides)", run=_with(run, "mfn"), slides=90.32),
        Row(
            name="heads0",
            title="0 heads (no embedding)",
            run=_with(run, "ddamfn", num_heads=0),
            note="DDAMFN without heads: trunk, GDConv and linear layer; not on the slides.",
        ),
    ]
    for n, accuracy in slides.items():
        title = "1 head" if n == 1 else f"{n} heads"
        rows.append(Row(name=f"heads{n}", title=title, run=_with(run, "ddamfn", num_heads=n), slides=accuracy))
    return tuple(rows)


def attention_loss(run: Run) -> tuple[Row, ...]:
    """The attention loss switched off, as printed on the slides, as in the authors' program, and weaker."""
    base = _with(run, "ddamfn", num_heads=2)
    return (
        Row(name="none", title="no attention loss", run=replace(base, objective=DDAMFNObjective(attention_weight=0.0))),
        Row(
            name="slide-sum",
            title="0.1 / sum over ordered pairs",
            run=replace(base, objective=DDAMFNObjective(attention_form="slide_sum")),
            note="As printed; half of the authors' program's with two heads.",
        ),
        Row(
            name="mean-pair",
            title="0.1 / mean over pairs",
            run=replace(base, objective=DDAMFNObjective(attention_form="mean_pair")),
            note="As in the authors' program.",
        ),
        *(
            Row(
                name=f"mean-pair-{weight:g}",
                title=f"{weight:g} / mean over pairs",
                run=replace(base, objective=DDAMFNObjective(attention_weight=weight)),
                note="Not on the slides: from random weights 0.1 may be too much.",
            )
            for weight in (0.01, 0.001)
        ),
    )


def mixed_kernels(run: Run) -> tuple[Row, ...]:
    """Depthwise kernels of 3 to 9 px side by side, against 3x3 alone."""
    plain = _with(run, "ddamfn", num_heads=2, mixed_kernels=False)
    return (Row(name="plain", title="3x3 kernels alone", run=plain), _full(run, None))


def coordinate_attention(run: Run) -> tuple[Row, ...]:
    """Coordinate attention inside every bottleneck of the trunk, or none there."""
    plain = _with(run, "ddamfn", num_heads=2, coordinate_attention=False)
    return (Row(name="none", title="no coordinate attention", run=plain), _full(run, None))


_Table = tuple[Callable[[Run], tuple[Row, ...]], str, str, tuple[str, ...]]

TABLES: Mapping[str, _Table] = MappingProxyType(
    {
        "backbones": (backbones, "Backbones", "ddamfn", (_UNITS, _GAIN)),
        "ddan": (ddan, "The dual-direction attention network", "ddamfn", (_GAIN,)),
        "heads": (heads, "Number of attention heads", "heads2", ()),
        "attention-loss": (attention_loss, "The attention loss", "mean-pair", ()),
        "mixed-kernels": (mixed_kernels, "Mixed kernels", "ddamfn", ()),
        "coordinate-attention": (coordinate_attention, "Coordinate attention", "ddamfn", ()),
    }
)
"""Name of a table -> its rows from a base run, its title, the row that is compared with, notes."""


def ablation(table: str, base: Run, plan: Plan) -> Study:
    """Build the study of one table.

    Args:
        table: one of `TABLES`.
        base: what all rows share: recipe, images, epochs.
        plan: data set, seeds.

    Raises:
        UsageError: if there is no such table.
    """
    if table not in TABLES:
        raise UsageError(f"no table named {table!r}; there are: {', '.join(TABLES)}")
    make, title, reference, notes = TABLES[table]
    rows = make(base)
    return Study(
        name=f"ablation-{table}",
        title=title,
        rows=rows,
        reference=reference,
        jobs=repeat(rows, plan),
        notes=(*notes, *(() if table == "attention-loss" else attention_note(base))),
    )
