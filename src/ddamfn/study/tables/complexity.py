"""Parameters and multiply-accumulates of the networks."""

from dataclasses import dataclass

import torch

from ddamfn.models import create_network
from ddamfn.models.complexity import count_macs, count_parameters, count_torchstat_flops

MEBI = 2**20
_MILLION, _BILLION = 10**6, 10**9

_WHY = (
    "The slides' column of parameters mixes two units: four rows are printed in 2^20 and the row DDAMFN in 10^6. In "
    "one unit DDAMFN is smaller than its own backbone, {ddamfn:,} against {mfn:,}, a difference of {less:,}: it drops "
    "the 256-d embedding and puts two heads of 34,864 in its place. The 0.133 M that the heads seem to add is due to "
    "the units alone.",
    "FLOPs are torchstat's, in 10^6 and 10^9 throughout: MACs of layers, a convolution's bias, 2 operations per number "
    "in 2-d batch normalization, 1 in ReLU and the like, 1 per number that a windowed pool takes in; sigmoids, means "
    "and products of maps count nothing. Only parameters that an image passes through are counted; the authors' "
    "program holds others besides.",
)


@dataclass(frozen=True)
class Reported:
    """One network's row in the DDAMFN authors' table."""

    title: str
    network: str  # name in `ddamfn.models`
    parameters: str  # as printed
    unit: int  # divisor of the printed parameters, 2^20 or 10^6
    flops: str  # as printed


REPORTED = (
    Reported("MobileFaceNet", "mobilefacenet", "1.148 M", MEBI, "230.34 M"),
    Reported("ResNet-18", "iresnet18", "16.78 M", MEBI, "2.6 G"),
    Reported("ResNet-50", "iresnet50", "41.56 M", MEBI, "6.31 G"),
    Reported("MFN", "mfn", "3.973 M", MEBI, "550.74 M"),
    Reported("DDAMFN", "ddamfn", "4.106 M", _MILLION, "551.22 M"),
)


@dataclass(frozen=True)
class Cost:
    """One network's counts for seven expressions and images of 112 px."""

    reported: Reported
    parameters: int  # learned ones that predictions depend on
    macs: int  # per image, without biases
    flops: int  # as torchstat counts

    @property
    def agrees(self) -> tuple[bool, bool]:
        """Whether parameters and FLOPs, formatted as published, equal the published figures."""
        return (
            format_parameters(self.parameters, self.reported.unit) == self.reported.parameters,
            format_flops(self.flops) == self.reported.flops,
        )


def format_parameters(count: int, unit: int) -> str:
    """Print a count in four significant digits of a unit, such as `1.148 M`."""
    return f"{count / unit:.4g} M"


def format_flops(count: int) -> str:
    """Print a count as torchstat does, rounded to two decimals without trailing zeros, such as `2.6 G`."""
    unit, letter = (_BILLION, "G") if count >= _BILLION else (_MILLION, "M")
    return f"{round(count / unit, 2)} {letter}"


def measure() -> tuple[Cost, ...]:
    """Build the five networks without allocating memory, and count."""
    costs = []
    for reported in REPORTED:
        with torch.device("meta"):
            network = create_network(reported.network, num_classes=7)
        costs.append(Cost(reported, count_parameters(network), count_macs(network), count_torchstat_flops(network)))
    return tuple(costs)


def cells(costs: tuple[Cost, ...]) -> list[list[str]]:
    """Heading and one line per network."""
    lines = [
        [
            "network", "parameters", "/10^6", "/2^20", "reported", "in", "same", "MACs", "torchstat FLOPs", "rounded",
            "reported", "same",
        ]
    ]  # fmt: skip
    for cost in costs:
        reported, same = cost.reported, ["yes" if agrees else "NO" for agrees in cost.agrees]
        lines.append(
            [
                reported.title, f"{cost.parameters:,}", f"{cost.parameters / _MILLION:.4f}",
                f"{cost.parameters / MEBI:.4f}", reported.parameters, "2^20" if reported.unit == MEBI else "10^6",
                same[0], f"{cost.macs / _MILLION:.2f} M", f"{cost.flops / _MILLION:.3f} M", format_flops(cost.flops),
                reported.flops, same[1],
            ]
        )  # fmt: skip
    return lines


def explanation(costs: tuple[Cost, ...]) -> list[str]:
    """State how many figures agree, and why the published parameters use no single unit; paragraphs."""
    agreeing = sum(sum(cost.agrees) for cost in costs)
    counts = {cost.reported.network: cost.parameters for cost in costs}
    numbers = {"mfn": counts["mfn"], "ddamfn": counts["ddamfn"], "less": counts["mfn"] - counts["ddamfn"]}
    first = f"{agreeing} of the slides' {2 * len(costs)} figures agree as printed."
    return [part.format(**numbers) for part in (first, *_WHY)]
