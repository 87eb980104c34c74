"""Drawing with Pillow alone: boxes and labels in an image, attention maps on a face, cards, probabilities over time.

Knows pixels and text, and nothing of detectors or networks.
"""

from ddamfn.drawing.boxes import Mark, annotate
from ddamfn.drawing.cards import FaceCard, draw_card, with_cards
from ddamfn.drawing.palette import overlay
from ddamfn.drawing.timeline import Strip, clock, draw_timeline

__all__ = ["FaceCard", "Mark", "Strip", "annotate", "clock", "draw_card", "draw_timeline", "overlay", "with_cards"]
