"""Draw the network: its stages, one bottleneck, one attention head. All numbers come from the modules."""

from dataclasses import dataclass
from typing import Any

import torch
from svg import ATTENTION, BLOCK, MUTED, RESULT, Drawing
from torch import nn

from ddamfn.models import create_network
from ddamfn.models.complexity import count_parameters
from ddamfn.models.ddamfn import DDAMFN
from ddamfn.models.layers import DirectionalGates, MixBottleneck

_CLASSES = 7
_CELL = 4
_SMALL_CELL = 3

LEGEND = "Colored squares: sizes of the kernels, for the stages of the depthwise ones. Gray numbers: parameters."


@dataclass(frozen=True)
class Stage:
    """One box of the drawing: a stage of the network and its measured properties."""

    name: str
    channels: int
    side: int
    kernels: tuple[int, ...]
    repeats: int
    residual: bool
    parameters: int


def stages(model: DDAMFN) -> list[Stage]:
    """Run the trunk once on an empty image and return the properties of its stages."""
    found: list[Stage] = []
    x = torch.zeros(1, 3, *model.input_size)
    model.eval()
    with torch.no_grad():
        for name, part in model.trunk.named_children():
            x = part(x)
            mixed = [block for block in part.modules() if isinstance(block, MixBottleneck)]
            kernels = _kernels(mixed[0].mix) if mixed else _kernels(part)
            found.append(
                Stage(
                    name, x.shape[1], x.shape[2], kernels, len(mixed) or 1, bool(mixed and mixed[0].residual),
                    count_parameters(part),
                )
            )  # fmt: skip
    return found


def network() -> str:
    """Draw the whole network, image to expressions."""
    model = _model()
    made = Drawing(1210, 560, "DDAMFN: the trunk MFN above, the attention network DDAN below")
    made.words(24, 34, "MFN, the mixed feature network", size=17, bold=True, anchor="start")
    made.box(24, 122, 76, 76, RESULT)
    made.words(62, 158, ["face", "112 x 112"], size=12)
    x, before = 126.0, 100.0
    for stage in stages(model):
        made.arrow((before, 160), (x, 160))
        before = _stage(made, stage, x)
        x = before + 20
    # Down from the trunk's end, and along to DDAN's beginning.
    made.arrow((before - 48, 252), (before - 48, 286), (40, 286), (40, 398), (66, 398))
    _heads(made, model)
    made.words(24, 540, LEGEND, size=12, color=MUTED, anchor="start")
    return made.text()


def _stage(made: Drawing, stage: Stage, x: float) -> float:
    """Draw one stage in the upper row; return the x of its right edge."""
    width = 98.0
    made.box(x, 66, width, 186, BLOCK if stage.repeats == 1 or stage.residual else RESULT)
    title = stage.name.replace("_", " ").replace("stage", "stage ")
    made.words(x + width / 2, 88, title, size=12, bold=True)
    widths = [kernel * _SMALL_CELL for kernel in stage.kernels]
    left = x + (width - sum(widths) - 4 * (len(widths) - 1)) / 2
    for kernel in stage.kernels:
        left += made.kernel(left, 130 - kernel * _SMALL_CELL / 2, kernel, _SMALL_CELL) + 4
    made.words(x + width / 2, 180, [f"{stage.channels} channels", f"{stage.side} x {stage.side}"], size=12)
    made.words(x + width / 2, 216, f"{stage.parameters:,}", size=11, color=MUTED)
    if stage.repeats > 1:
        made.words(x + width / 2, 242, f"{stage.repeats} times, + input", size=11, bold=True)
    return x + width


def _heads(made: Drawing, model: DDAMFN) -> None:
    """Draw the lower row: heads, their maximum, the product, and the classifier."""
    made.words(60, 330, "DDAN, the dual-direction attention network", size=17, bold=True, anchor="start")
    last = stages(model)[-1]
    made.box(66, 360, 120, 76)
    made.words(126, 392, ["features", f"{last.channels} x {last.side} x {last.side}"], size=13)
    count = len(model.ddan.heads)
    for number, head_module in enumerate(model.ddan.heads):
        y = 345 + 60 * number
        made.box(250, y, 178, 46, ATTENTION)
        made.words(339, y + 19, [f"attention head {number + 1}", f"{count_parameters(head_module):,}"], size=12)
        made.arrow((186, 398), (216, 398), (216, y + 23), (250, y + 23))
        made.arrow((428, y + 23), (478, y + 23), (478, 385 if number == 0 else 411))
    made.sign(478, 398, "")
    made.words(478, 402, "max", size=10, bold=True)
    made.sign(560, 398, "×")
    made.arrow((491, 398), (547, 398))
    # The features pass below the heads and are multiplied by the maximum.
    foot = 345 + 60 * count + 18
    made.arrow((126, 436), (126, foot), (560, foot), (560, 411))
    made.words(
        343, foot + 18, "the features, weighed position by position and channel by channel", size=12, color=MUTED
    )
    shapes = [
        ("GDConv", f"{last.side} x {last.side}, one weight", "a position"),
        ("linear", f"{last.channels} to {_CLASSES}", ""),
    ]
    x = 573.0
    for title, *rest in shapes:
        made.arrow((x, 398), (x + 44, 398))
        made.box(x + 44, 360, 132, 76)
        made.words(x + 110, 386, title, size=13, bold=True)
        made.words(x + 110, 406, [word for word in rest if word], size=12)
        x += 176
    made.arrow((x, 398), (x + 44, 398))
    made.box(x + 44, 360, 150, 76, RESULT)
    made.words(x + 119, 392, [f"{_CLASSES} expressions", f"{count_parameters(model):,} in all"], size=13)


def bottleneck() -> str:
    """Draw one residual bottleneck, that of the last stage, which has the most kernels."""
    block = next(b for b in reversed(list(_model().trunk.modules())) if isinstance(b, MixBottleneck) and b.residual)
    splits, kernels = block.mix.splits, _kernels(block.mix)
    made = Drawing(1000, 330, "A residual bottleneck of MFN with mixed kernels and coordinate attention")
    center, into, inside = 150, block.expand.conv.in_channels, block.expand.conv.out_channels
    made.words(20, center + 5, f"{into}", anchor="start", bold=True)
    made.arrow((50, center), (76, center))
    _titled(made, 76, center, 130, "1 x 1", [f"{into} to {inside}", "norm, PReLU"])
    for number, (kernel, width) in enumerate(zip(kernels, splits, strict=True)):
        y = center + 84 * (number - (len(kernels) - 1) / 2)
        made.arrow((206, center), (230, center), (230, y), (262, y))
        made.box(262, y - 34, 190, 68)
        side = made.kernel(276, y - kernel * _CELL / 2, kernel, _CELL)
        made.words(290 + side, y - 3, [f"{kernel} x {kernel} depthwise", f"{width} channels"], size=12, anchor="start")
        made.arrow((452, y), (478, y), (478, center), tip=False)
    made.arrow((478, center), (504, center))
    _titled(made, 504, center, 176, "coordinate attention", ["gates of rows and columns,", "from averages"], ATTENTION)
    made.arrow((680, center), (712, center))
    _titled(made, 712, center, 130, "1 x 1", [f"{inside} to {block.project.conv.out_channels}", "norm, linear"])
    made.sign(890, center, "+")
    made.arrow((842, center), (877, center))
    made.arrow((903, center), (960, center))
    made.arrow((60, center), (60, 296), (890, 296), (890, center + 13))
    made.words(475, 316, "the input, only where stride is 1 and widths agree", size=12, color=MUTED)
    return made.text()


def head() -> str:
    """Draw one attention head of DDAN."""
    module: Any = _model().ddan.heads[0]
    gates: DirectionalGates = module.gates
    channels, hidden = gates.squeeze.in_channels, gates.squeeze.out_channels
    (_, width), (height, _) = module.rows.conv.kernel_size, module.columns.conv.kernel_size
    made = Drawing(1120, 290, "A dual-direction attention head of DDAN")
    made.box(20, 107, 110, 76)
    made.words(75, 139, ["features", f"{channels} x {height} x {width}"], size=13)
    for y, kernel, shape, gate in (
        (75, f"1 x {width}", f"{channels} x {height} x 1", "gates of rows"),
        (215, f"{height} x 1", f"{channels} x 1 x {width}", "gates of columns"),
    ):
        made.arrow((130, 145), (150, 145), (150, y), (176, y))
        _titled(made, 176, y, 150, f"GDConv {kernel}", [shape])
        made.arrow((326, y), (360, y), (360, 145 - (13 if y < 145 else -13)))
        made.arrow((640, 145), (664, 145), (664, y), (690, y))
        _titled(made, 690, y, 170, gate, [f"1 x 1, {hidden} to {channels}", "sigmoid"], ATTENTION)
        made.arrow((860, y), (910, y), (910, 145 - (13 if y < 145 else -13)))
    made.sign(360, 145, "")
    made.words(360, 149, "join", size=10, bold=True)
    made.arrow((373, 145), (410, 145))
    _titled(made, 410, 145, 230, f"1 x 1, {channels} to {hidden}", ["norm, h-swish,", "rows and columns together"])
    made.sign(910, 145, "×")
    made.arrow((923, 145), (960, 145))
    made.box(960, 107, 140, 76, ATTENTION)
    made.words(1030, 139, ["map in (0, 1)", f"{channels} x {height} x {width}"], size=13)
    return made.text()


def _titled(
    made: Drawing, x: float, center: float, width: float, title: str, lines: list[str], fill: str = BLOCK
) -> None:
    """Draw a box around `center` with a title and lines of text."""
    height = 42 + 17 * len(lines)
    made.box(x, center - height / 2, width, height, fill)
    made.words(x + width / 2, center - height / 2 + 23, title, bold=True)
    made.words(x + width / 2, center - height / 2 + 42, lines, size=12)


def _model() -> DDAMFN:
    model = create_network("ddamfn", num_classes=_CLASSES)
    assert isinstance(model, DDAMFN)
    return model


def _kernels(part: nn.Module) -> tuple[int, ...]:
    """Return the distinct sizes of a part's square kernels."""
    convs = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
    return tuple(dict.fromkeys(conv.kernel_size[0] for conv in convs))
