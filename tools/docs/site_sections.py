"""The site's sections on the bundled weights, from their cards and robustness reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from card_sections import abstention, attention, failures, recalls, robustness, robustness_key

from ddamfn.weights import Card


def where_they_fail(cards: Sequence[Card], measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the recalls, failures, abstention and robustness of each weights file.

    Args:
        cards: the cards of the weights.
        measured: the newest robustness reports, as `card_sections.read_robustness` returns them.
    """
    blocks = []
    for card in cards:
        blocks.append(f"### {card.name}")
        if card.scores:
            blocks += [recalls(card), *failures(card)]
        key = robustness_key(card.sha256, card.preprocessing)
        blocks += [*attention(card), *abstention(card), robustness(measured.get(key), linked=False)]
    return "\n\n".join(blocks)


def rights(cards: Sequence[Card]) -> str:
    """Return the license and rights of each weights file."""
    return "\n".join(f"- `{card.name}` ({card.license}): {card.rights}" for card in cards)


def attention_of(cards: Sequence[Card]) -> str:
    """Return the attention statistics of each weights file."""
    return "\n\n".join(f"`{card.name}`. {words}" for card in cards for words in attention(card))


def cost(cards: Sequence[Card]) -> str:
    """Return the cost of one face with each weights file."""
    return "\n".join(
        f"- `{card.name}`: {card.architecture['parameters']:,} parameters, {card.architecture['gmac']:.3f} GMAC "
        f"per face at {card.input_side_px} px, weights stored as {card.precision}"
        for card in cards
    )
