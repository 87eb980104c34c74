"""From a card's words to an alignment, in one place: cards know nothing of faces, and faces nothing of cards."""

from ddamfn.faces import Alignment
from ddamfn.weights import Card


def alignment_of(card: Card) -> Alignment:
    """Return how the card's network wants faces cut out.

    Raises:
        ConfigError: if the card names a template that this version does not know, or a number out of range.
    """
    entry = card.alignment
    return Alignment(entry["template"], entry["margin"], entry["side_px"])
