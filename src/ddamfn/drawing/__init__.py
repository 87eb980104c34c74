"""Drawing with Pillow alone: boxes and labels in a picture, attention maps on a face, cards beside a picture.

Knows pixels and text, and nothing of detectors or networks.
"""

from ddamfn.drawing.boxes import Mark, annotate
from ddamfn.drawing.cards import FaceCard, draw_card, with_cards
from ddamfn.drawing.heat import overlay

__all__ = ["FaceCard", "Mark", "annotate", "draw_card", "overlay", "with_cards"]
