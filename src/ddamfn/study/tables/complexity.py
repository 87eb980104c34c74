"""Parameters and multiply-accumulates of the networks."""

import textwrap
from dataclasses import dataclass

import torch

from ddamfn.models import create_model
from ddamfn.models.complexity import count_macs, count_parameters, count_torchstat_flops

MEBI = 2**20
_MILLION, _BILLION = 10**6, 10**9
_WIDTH = 118

_ROWS = (
    # title, network, what the slides print for parameters, its unit there, what they print for FLOPs
    ("MobileFaceNet", "mobilefacenet", "1.148 M", MEBI, "230.34 M"),
    ("ResNet-18", "iresnet18", "16.78 M", MEBI, "2.6 G"),
    ("ResNet-50", "iresnet50", "41.56 M", MEBI, "6.31 G"),
    ("MFN", "mfn", "3.973 M", MEBI, "550.74 M"),
    ("DDAMFN", "ddamfn", "4.106 M", _MILLION, "551.22 M"),
)

_WHY = (
    "The slides' column of parameters mixes two units: four rows are printed in 2^20 and the row DDAMFN in 10^6. In "
    "one unit DDAMFN is smaller than its own backbone, {ddamfn:,} against {mfn:,}, a difference of {less:,}: it drops "
    "the 256-d embedding and puts two heads of 34,864 in its place. The 0.133 M that the heads seem to add is due to "
    "the units alone.",
    "FLOPs are torchstat's, in 10^6 and 10^9 throughout: MACs of layers, a convolution's bias, 2 operations a number "
    "in 2-d batch normalization, 1 in ReLU and its kin, 1 a number that a windowed pool takes in; sigmoids, means and "
    "products of maps count nothing. Only parameters that an image passes through are counted; the authors' program "
    "holds others besides.",
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One network's row, for seven expressions and images of 112 px.

    Attributes:
        title: as on the slides.
        network: name in `ddamfn.models`.
        parameters: learned numbers that an image passes through.
        macs: multiply-accumulates of one image, without biases.
        flops: what torchstat counts.
        slide_parameters: as printed on the slides.
        slide_unit: what the slides divided by, 2^20 or 10^6.
        slide_flops: as printed on the slides.
    """

    title: str
    network: str
    parameters: int
    macs: int
    flops: int
    slide_parameters: str
    slide_unit: int
    slide_flops: str

    @property
    def agrees(self) -> tuple[bool, bool]:
        """Whether parameters and FLOPs, printed as the slides print them, are the slides' own, letter by letter."""
        return (
            as_slide_parameters(self.parameters, self.slide_unit) == self.slide_parameters,
            as_slide_flops(self.flops) == self.slide_flops,
        )


def as_slide_parameters(count: int, unit: int) -> str:
    """Print a count in four significant digits of a unit, such as `1.148 M`."""
    return f"{count / unit:.4g} M"


def as_slide_flops(count: int) -> str:
    """Print a count as torchstat does, rounded to two decimals without trailing zeros, such as `2.6 G`."""
    unit, letter = (_BILLION, "G") if count >= _BILLION else (_MILLION, "M")
    return f"{round(count / unit, 2)} {letter}"


def measure() -> tuple[Cost, ...]:
    """Build the five networks without memory and count."""
    costs = []
    for title, name, parameters, unit, flops in _ROWS:
        with torch.device("meta"):
            network = create_model(name, num_classes=7)
        costs.append(
            Cost(
                title=title,
                network=name,
                parameters=count_parameters(network),
                macs=count_macs(network),
                flops=count_torchstat_flops(network),
                slide_parameters=parameters,
                slide_unit=unit,
                slide_flops=flops,
            )
        )
    return tuple(costs)


def table(costs: tuple[Cost, ...]) -> list[list[str]]:
    """Rows of cells, the first of which is the head."""
    rows = [
        [
            "network", "parameters", "/10^6", "/2^20", "slides", "in", "same", "MACs", "torchstat FLOPs",
            "as the slides print", "slides", "same",
        ]
    ]  # fmt: skip
    for cost in costs:
        same = ["yes" if agrees else "NO" for agrees in cost.agrees]
        rows.append(
            [
                cost.title, f"{cost.parameters:,}", f"{cost.parameters / _MILLION:.4f}",
                f"{cost.parameters / MEBI:.4f}", cost.slide_parameters, "2^20" if cost.slide_unit == MEBI else "10^6",
                same[0], f"{cost.macs / _MILLION:.2f} M", f"{cost.flops / _MILLION:.3f} M", as_slide_flops(cost.flops),
                cost.slide_flops, same[1],
            ]
        )  # fmt: skip
    return rows


def explanation(costs: tuple[Cost, ...]) -> str:
    """Say how many figures agree, and why the slides' column of parameters cannot be read as one column."""
    agreeing = sum(sum(cost.agrees) for cost in costs)
    counts = {cost.network: cost.parameters for cost in costs}
    numbers = {"mfn": counts["mfn"], "ddamfn": counts["ddamfn"], "less": counts["mfn"] - counts["ddamfn"]}
    first = f"{agreeing} of the slides' {2 * len(costs)} figures agree as printed."
    return "\n\n".join(textwrap.fill(part.format(**numbers), _WIDTH) for part in (first, *_WHY))
