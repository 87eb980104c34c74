"""Boxes, arrows, text and maps as SVG: the same input gives the same bytes on every machine."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from ddamfn.drawing.palette import heat_colors

INK, MUTED, PAPER = "#1b1f24", "#57606a", "#ffffff"
# Color-blind safe, by kernel size: after Okabe and Ito, "Color Universal Design", 2008.
KERNELS = {1: "#9a9a9a", 3: "#0072b2", 5: "#009e73", 7: "#e69f00", 9: "#cc79a7"}
BLOCK, ATTENTION, RESULT = "#e8ebef", "#f6dfd0", "#dcebdc"


class Drawing:
    """An SVG drawing to which elements are added; x points right and y down, in px.

    Args:
        width: in px.
        height: in px.
        title: the text for screen readers.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>',
            # Its own paper: pages may be dark.
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, fill: str = BLOCK, *, dashed: bool = False) -> None:
        """Add a rectangle with round corners."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" '
            f'stroke="{MUTED}"{dash}/>'
        )

    def words(self, x: float, y: float, lines: str | Sequence[str], *, size: int = 13, bold: bool = False,
              color: str = INK, anchor: str = "middle") -> None:  # fmt: skip
        """Add lines of text, the first one's baseline at y."""
        weight = ' font-weight="bold"' if bold else ""
        for number, line in enumerate([lines] if isinstance(lines, str) else lines):
            self._lines.append(
                f'<text x="{x:g}" y="{y + number * (size + 4):g}" font-size="{size}" text-anchor="{anchor}" '
                f'fill="{color}"{weight}>{escape(line)}</text>'
            )

    def arrow(self, *points: tuple[float, float], tip: bool = True) -> None:
        """Add a line through points, with a tip at its end."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        end = ' marker-end="url(#tip)"' if tip else ""
        self._lines.append(f'<path d="M{path}" fill="none" stroke="{INK}" stroke-width="1.4"{end}/>')

    def sign(self, x: float, y: float, word: str) -> None:
        """Add an operation, such as a product, in a circle."""
        self._lines.append(f'<circle cx="{x:g}" cy="{y:g}" r="13" fill="{PAPER}" stroke="{INK}"/>')
        self.words(x, y + 5, word, size=14, bold=True)

    def kernel(self, x: float, y: float, size: int, unit: float = 4) -> float:
        """Add a square grid of `size` cells a side with its upper left corner at (x, y); return its side in px."""
        side = size * unit
        self._lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="{KERNELS[size]}" stroke="{PAPER}"/>'
        )
        grid = "".join(f"M{x + k * unit:g} {y:g}v{side:g}M{x:g} {y + k * unit:g}h{side:g}" for k in range(1, size))
        if grid:
            self._lines.append(f'<path d="{grid}" stroke="{PAPER}" stroke-width="0.8" opacity="0.7"/>')
        return side

    def map(self, x: float, y: float, values: Sequence[Sequence[float]], unit: float = 12) -> None:
        """Add a map of values from 0 (dark) to 1 (bright), each a square of `unit` px."""
        for row, line in enumerate(heat_colors_of(values)):
            for column, color in enumerate(line):
                self._lines.append(
                    f'<rect x="{x + column * unit:g}" y="{y + row * unit:g}" width="{unit:g}" height="{unit:g}" '
                    f'fill="{color}"/>'
                )

    def text(self) -> str:
        """Return the file's content."""
        return "\n".join([*self._lines, "</svg>", ""])


def heat_colors_of(values: Sequence[Sequence[float]]) -> list[list[str]]:
    """Return the colors of a map as hexadecimal codes."""
    return [[f"#{bytes(pixel).hex()}" for pixel in row] for row in heat_colors(np.asarray(values)).tolist()]
