"""Networks by name, for recipes and the command line, and what each of them returns."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from torch import Tensor, nn

# A plain dictionary, because torch looks for tensors in those (export, compile, data parallelism). Its type is that of
# a mapping, so that nobody writes to it.
_NOTHING: Mapping[str, Tensor] = {}


class ModelOutput(NamedTuple):
    """One forward pass over B images.

    Attributes:
        logits: (B, K) float, before softmax, in the order of the labels that the network was trained with.
        features: (B, C, H, W) float, the last spatial map before the head; (B, 512, 7, 7) for DDAMFN at 112 px.
        attention: (B, A, C, H, W) float from 0 to 1, one map for each of A heads; C is 1 for maps of positions alone.
            A is 0 for a network without heads.
        extra: further outputs that the network's own objective needs, by name; each network documents its own. Empty
            for most, and not exported.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor
    extra: Mapping[str, Tensor] = _NOTHING

    def detach(self) -> "ModelOutput":
        """Return the same tensors, detached from the gradient."""
        extra = {name: tensor.detach() for name, tensor in self.extra.items()}
        return ModelOutput(self.logits.detach(), self.features.detach(), self.attention.detach(), extra)


def without_heads(features: Tensor) -> Tensor:
    """Return the empty attention of a network without heads, (B, 0, C, H, W), for its map (B, C, H, W)."""
    return features.new_empty((features.shape[0], 0, *features.shape[1:]))


class Network(Protocol):
    """What every registered network offers besides `torch.nn.Module`."""

    num_classes: int
    input_size: tuple[int, int]

    def __call__(self, images: Tensor) -> ModelOutput:
        """Run on images (B, 3, H, W)."""


Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register_model(builder: Builder) -> Builder:
    """Register a network's class, or a function that builds it, under its own name in lower case.

    Raises:
        ValueError: if the name is taken.
    """
    name = builder.__name__.lower()
    if name in _BUILDERS:
        raise ValueError(f"a network named {name!r} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_models() -> list[str]:
    """Names that `create_network` knows, sorted."""
    return sorted(_BUILDERS)


def create_network(name: str, *, num_classes: int, **options: Any) -> nn.Module:
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
    """Return the same module, typed as `Network`."""
    return cast(Network, module)
