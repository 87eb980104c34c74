"""Where weights are found: in the package itself, or in a file that the user names. Nothing is ever downloaded."""

import os
from pathlib import Path

from ddamfn.errors import WeightsError
from ddamfn.weights.card import Card, read_card

DEFAULT_WEIGHTS = "ddamfn-ferplus"
"""The weights that are used when none are named."""

_BUNDLED = Path(__file__).parent / "bundled"


def list_weights(folder: str | os.PathLike[str] | None = None) -> list[Card]:
    """Return the cards of all weights in a folder, sorted by name.

    Args:
        folder: where the cards lie; the package's own when None.

    Raises:
        WeightsError: if a card cannot be read.
    """
    root = _BUNDLED if folder is None else Path(folder)
    return sorted((read_card(path) for path in root.glob("*.json")), key=lambda card: card.name)


def find_weights(name_or_path: str | os.PathLike[str] | None = None) -> tuple[Path, Card]:
    """Find a network and its card.

    Args:
        name_or_path: the name of bundled weights, or the path of an `.onnx` network or of its `.json` card, which lie
            side by side; `DEFAULT_WEIGHTS` when None.

    Returns:
        The network's path and its card.

    Raises:
        WeightsError: if there is no such name or file, or the card beside it is missing or unusable.
    """
    wanted = DEFAULT_WEIGHTS if name_or_path is None else os.fspath(name_or_path)
    path = Path(wanted)
    if path.suffix.lower() in (".onnx", ".json"):
        return _beside(path)
    for card_path in sorted(_BUNDLED.glob("*.json")):
        card = read_card(card_path)
        if card.name == wanted:
            return card_path.parent / card.file, card
    names = ", ".join(card.name for card in list_weights()) or "none in this installation"
    raise WeightsError(
        f"there are no weights named {wanted!r} (bundled: {names}); name one of these, or the path of an .onnx file"
    )


def _beside(path: Path) -> tuple[Path, Card]:
    """Find the other file of the pair of network and card."""
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    if path.suffix.lower() == ".json":
        card = read_card(path)
        return path.parent / card.file, card
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise WeightsError(f"{path} has no card: {card_path.name} must lie beside it, for the labels and preprocessing")
    return path, read_card(card_path)
