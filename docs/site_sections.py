"""What the site's pages say of the bundled weights, made of their cards and of the measurements of their robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

from card_sections import abstention, attention, failures, recalls, robustness

from ddamfn.weights import Card


def where_they_fail(cards: Sequence[Card], measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return each weights file's recalls, its poor classes, what abstaining keeps, and what it withstands.

    Args:
        cards: of the weights.
        measured: the newest measurement of robustness of each file, by its sha256.
    """
    blocks = []
    for card in cards:
        blocks.append(f"### {card.name}")
        if card.scores:
            blocks += [recalls(card), *failures(card)]
        blocks += [*attention(card), *abstention(card), robustness(measured.get(card.sha256), linked=False)]
    return "\n\n".join(blocks)


def rights(cards: Sequence[Card]) -> str:
    """Return what each card says of licence and rights."""
    return "\n".join(f"- `{card.name}` ({card.licence}): {card.rights}" for card in cards)


def attention_of(cards: Sequence[Card]) -> str:
    """Return what each card says of the heads on validation pictures."""
    return "\n\n".join(f"`{card.name}`. {words}" for card in cards for words in attention(card))


def cost(cards: Sequence[Card]) -> str:
    """Return what one face costs with each weights file."""
    return "\n".join(
        f"- `{card.name}`: {card.architecture['parameters']:,} parameters, {card.architecture['gmac']:.3f} GMAC a face "
        f"at {card.input_side_px} px, weights stored as {card.precision}"
        for card in cards
    )
