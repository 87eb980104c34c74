"""Pictures of scores and of training: confusion matrix, reliability diagram, curves. Needs the extra "plot"."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddamfn.errors import DataError, MissingExtra
from ddamfn.evaluate.metrics import reliability_bins
from ddamfn.evaluate.scores import Scores

BLUE, ORANGE, GREY = "#2f6db3", "#d9822b", "#8a8a8a"
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


def plot_confusion(scores: Scores, path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw the row-normalised confusion matrix with the count in every cell.

    Args:
        scores: what to draw.
        path: the PNG file to write.
        title: one line above; rule and N belong into it.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    figure, axes = _figure(7.6, 6.6)
    counts = np.array(scores.confusion_matrix, dtype=np.float64)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    places = range(len(scores.classes))
    axes.set_xticks(places, scores.classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [f"{name} ({scores.support[name]:,})" for name in scores.classes])
    for row in places:
        for column in places:
            if not counts[row, column]:
                continue
            text = f"{100 * shares[row, column]:.1f} %\n{int(counts[row, column]):,}"
            colour = "white" if shares[row, column] > 0.55 else "#1a1a1a"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
    axes.set_xlabel("answered")
    axes.set_ylabel("true (pictures)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return _save(figure, axes, title, path)


def plot_reliability(
    confidence: ArrayLike, correct: ArrayLike, path: str | os.PathLike[str], *, bins: int = 15, title: str = ""
) -> Path:
    """Draw how often answers of each confidence are right, and how many there are.

    Args:
        confidence: (N,) in 0..1.
        correct: bool (N,).
        path: the PNG file to write.
        bins: slices of 0..1.
        title: one line above.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    count, sure, right = reliability_bins(confidence, correct, bins)
    gap = float(np.nansum(np.abs(sure - right) * count) / max(1, count.sum()))
    figure, (axes, below) = _figure(6.0, 6.4, rows=(3, 1))
    edges, width = np.arange(bins) / bins, 1.0 / bins
    filled = count > 0
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.bar(edges[filled], right[filled], width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    axes.plot(sure[filled], right[filled], "o", color=ORANGE, markersize=4, label="mean confidence of the slice")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", xticklabels=[])
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.text(0.98, 0.04, f"calibration error {100 * gap:.2f} %", ha="right", transform=axes.transAxes)
    below.bar(edges, count / max(1, count.sum()), width, align="edge", color=GREY, edgecolor="white")
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="share of answers")
    return _save(figure, axes, title, path)


def plot_curves(
    records: Sequence[Mapping[str, Any]] | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    panels: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> Path:
    """Draw the numbers of a training run against the epoch.

    Args:
        records: one mapping an epoch with the key `epoch`, or the path of a file with one JSON object a line.
        path: the PNG file to write.
        panels: heading of each panel -> the keys that it draws; None draws what ends in `loss`, then what ends in
            `accuracy`, then `lr`.
        title: one line above.

    Raises:
        DataError: if there is no record with a number.
        MissingExtra: if matplotlib is not installed.
    """
    rows = _read_records(records) if isinstance(records, str | os.PathLike) else list(records)
    chosen = {name: keys for name, keys in (panels or _default_panels(rows)).items() if _any_number(rows, keys)}
    if not chosen:
        raise DataError("the training record holds no numbers to draw yet")
    figure, all_axes = _figure(7.2, 1.0 + 2.5 * len(chosen), rows=(1,) * len(chosen))
    for axes, (name, keys) in zip(np.atleast_1d(np.array(all_axes, dtype=object)), chosen.items(), strict=True):
        for number, key in enumerate(keys):
            points = [(row["epoch"], row[key]) for row in rows if _is_number(row.get(key))]
            if points:
                marker = "o" if len(points) == 1 else None
                axes.plot(
                    *zip(*points, strict=True), label=key.replace("_", " "), color=_COLOURS[number % 6], marker=marker
                )
        axes.set_ylabel(name)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=9, ncols=2)
    first, last = np.atleast_1d(np.array(all_axes, dtype=object))[[0, -1]]
    last.set_xlabel("epoch")
    last.xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, first, title, path)


_COLOURS = (BLUE, ORANGE, "#3c8d5a", "#a04a7f", "#6b5fb5", GREY)


def _default_panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {
        "loss": [key for key in keys if key.endswith("loss")],
        "accuracy": [key for key in keys if key.endswith("accuracy")],
        "learning rate": [key for key in keys if key == "lr"],
    }


def _read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read one JSON object a line; a torn last line, as a killed run leaves it, is passed over."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines) - 1:
                raise DataError(f"{path}: line {number + 1} is no JSON object: {error}") from error
    return [row for row in rows if isinstance(row, dict) and "epoch" in row]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _any_number(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> bool:
    return any(_is_number(row.get(key)) for row in rows for key in keys)


def _figure(width: float, height: float, rows: tuple[int, ...] = (1,)) -> tuple[Any, Any]:
    """A figure on the file-only canvas with one panel a row, heights in proportion to `rows`; inches."""
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
        axes = figure.subplots(len(rows), 1, height_ratios=rows)
    return figure, axes


def _save(figure: Any, axes: Any, title: str, path: str | os.PathLike[str]) -> Path:
    axes.set_title(title, fontsize=10, loc="left", pad=10)
    target = Path(path)
    try:
        figure.savefig(target, dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    return target
