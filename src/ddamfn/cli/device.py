"""The options --device and --num-threads of the verbs that use PyTorch."""

import argparse
from typing import TYPE_CHECKING

from ddamfn.cli.args import positive_integer
from ddamfn.errors import UsageError

if TYPE_CHECKING:
    import torch


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, which `choose_device` reads."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--num-threads`, which `use_threads` reads."""
    parser.add_argument(
        "--num-threads", type=positive_integer, metavar="N", help="CPU threads (default: PyTorch's choice)"
    )


def choose_device(name: str | None) -> "torch.device":
    """Return the named device; by default the first CUDA device, else the CPU."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


def use_threads(args: argparse.Namespace) -> None:
    """Set PyTorch's number of threads, if one is given."""
    import torch

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
