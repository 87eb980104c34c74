"""How the project's charts look, and how they become PNG files. Needs the extra "plot"."""

import os
from pathlib import Path
from typing import Any

from ddamfn.errors import DataError, MissingExtra

BLUE, ORANGE, GREY = "#2f6db3", "#d9822b", "#8a8a8a"
COLOURS = (BLUE, ORANGE, "#3c8d5a", "#a04a7f", "#6b5fb5", GREY)
"""Colours of lines, in this order."""

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "savefig.dpi": 150,
}


def new_figure(width: float, height: float, rows: tuple[int, ...] = (1,), columns: int = 1) -> tuple[Any, Any]:
    """Make a figure that can be written to a file and needs no display.

    Args:
        width: in inches.
        height: in inches.
        rows: rows of panels, their heights in proportion to these numbers.
        columns: panels a row.

    Returns:
        matplotlib's figure, and its panels: one, or an array of them.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("plot", "matplotlib", "Drawing scores") from error
    # The figure is made by hand and not by pyplot, so that neither a display nor the caller's own settings matter.
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows), columns, height_ratios=rows)
    return figure, panels


def set_title(axes: Any, text: str) -> None:
    """Write a panel's heading above its left edge."""
    axes.set_title(text, loc="left", fontsize=10, pad=8)


def write_figure(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, the same bytes for the same figure, and return its path.

    Raises:
        DataError: if the file cannot be written.
    """
    target = Path(path)
    try:
        figure.savefig(target, format="png", dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    return target
