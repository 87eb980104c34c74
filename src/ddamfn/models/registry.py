"""Networks by name, for recipes and the command line; in Python the classes may as well be called directly."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor, nn

from ddamfn.models.output import ModelOutput


class Network(Protocol):
    """What every registered network offers beside `torch.nn.Module`."""

    num_classes: int
    input_size: tuple[int, int]

    def __call__(self, images: Tensor) -> ModelOutput:
        """Run on images (B, 3, H, W)."""


Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register_model(builder: Builder) -> Builder:
    """Register a function whose name is the network's name.

    Raises:
        ValueError: if the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"a network named {name!r} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(_BUILDERS)


def create_model(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """Build a network with fresh weights (torch's default initialization, from torch's global generator).

    Args:
        name: one of `list_models()`.
        num_classes: K >= 2, the number of expressions.
        options: the network's own switches, such as `num_heads` of DDAMFN.

    Raises:
        ValueError: if the name is unknown or an option does not fit.
    """
    if name not in _BUILDERS:
        raise ValueError(f"no network named {name!r}; there are: {', '.join(list_models())}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, not {num_classes}")
    builder = _BUILDERS[name]
    known = [option for option in inspect.signature(builder).parameters if option != "num_classes"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}")
    return builder(num_classes=num_classes, **options)


def gives_class_maps(module: nn.Module) -> bool:
    """Whether a network can be called with `class_maps=True`, for class activation maps in its output's `extra`."""
    return "class_maps" in inspect.signature(module.forward).parameters


def as_network(module: nn.Module) -> Network:
    """The same module, typed as what the registry promises of it."""
    return cast(Network, module)
