"""`ddamfn models`: bundled weights with their accuracy, and networks, with the cost of each."""

import argparse
import json
from typing import TYPE_CHECKING, NamedTuple

from ddamfn.cli.io import print_table

if TYPE_CHECKING:
    from ddamfn.weights import Card


class _Network(NamedTuple):
    """A network built by `create_model` for seven expressions."""

    parameters: int
    gmac: float
    paper: str


# Kept here because asking the networks themselves needs PyTorch and takes seconds; a test compares the two.
NETWORKS: dict[str, _Network] = {
    "dacl": _Network(103_042_311, 1.814, "DACL, Farzaneh and Qi 2021; 11,180,103 parameters predict"),
    "dan": _Network(19_723_733, 2.225, "DAN, Wen et al. 2023"),
    "ddamfn": _Network(4_105_999, 0.540, "Zhang et al. 2023, with 2 attention heads"),
    "iresnet18": _Network(17_596_039, 2.591, "Deng et al. 2019; ResNet-18 of Zhang et al. 2023"),
    "iresnet50": _Network(43_578_567, 6.296, "Deng et al. 2019; ResNet-50 of Zhang et al. 2023"),
    "mfn": _Network(4_166_063, 0.539, "Zhang et al. 2023, the trunk alone"),
    "mobilefacenet": _Network(1_204_103, 0.221, "Chen et al. 2018"),
    "mvit": _Network(32_982_919, 6.984, "MViT, Li et al. 2021"),
    "poster": _Network(64_425_615, 8.132, "POSTER, Zheng et al. 2023"),
    "psr": _Network(20_108_586, 10.100, "PSR, Vo et al. 2020"),
    "ran": _Network(11_185_225, 10.881, "RAN, Wang et al. 2020"),
    "scn": _Network(11_180_616, 1.814, "SCN, Wang et al. 2020"),
    "transfer": _Network(65_217_835, 15.281, "TransFER, Xue et al. 2021"),
}
_LICENSE = "MIT"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "models",
        description="Lists the weights that are ready to use, and the networks that can be trained.",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of the list (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from ddamfn.weights import find_weights, list_weights

    weights = [(card, find_weights(card.name)[0].stat().st_size) for card in list_weights()]
    if args.format == "json":
        listed = [card.to_dict() | {"bytes": size} for card, size in weights]
        networks = [{"name": name, "license": _LICENSE} | entry._asdict() for name, entry in NETWORKS.items()]
        print(json.dumps({"weights": listed, "networks": networks}, indent=2))
        return 0
    print("weights (ddamfn predict --weights NAME)")
    head = ("name", "network", "parameters", "file", "accuracy", "license")
    print_table((_weights_line(card, size) for card, size in weights), head)
    print('\nnetworks (ddamfn.create_model, with pip install "ddamfn[train]")')
    lines = ((n, f"{e.parameters:,}", f"{e.gmac:.3f}", _LICENSE, e.paper) for n, e in NETWORKS.items())
    print_table(lines, ("name", "parameters", "GMAC", "license", "paper"))
    return 0


def _weights_line(card: "Card", size: int) -> tuple[str, ...]:
    made = card.architecture
    network = f"{made['name']}, {made['num_heads']} heads, {made['num_classes']} expressions"
    return card.name, network, f"{made['parameters']:,}", f"{size / 1e6:.1f} MB", accuracy(card), card.license


def accuracy(card: "Card") -> str:
    """Format weights' accuracy on their test split, with the number of images and the rule, if it was measured."""
    score = card.score()
    if score is None:
        return "not measured"
    text = f"{score['accuracy']:.2%}"
    if "n" in score:
        text += f" of {score['n']:,}"
    where = " ".join(str(score[key]) for key in ("dataset", "split", "rule") if key in score)
    return f"{text} ({where})"
