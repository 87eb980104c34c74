"""Plots of an evaluation and of a training run: confusion matrix, reliability, curves."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddamfn.errors import DataError, MissingExtra
from ddamfn.evaluate.metrics import Floats, Ints, reliability_bins
from ddamfn.evaluate.scores import Scores
from ddamfn.files import atomic_writer, read_json_lines

BLUE, ORANGE, GRAY = "#2f6db3", "#d9822b", "#8a8a8a"
COLORS = (BLUE, ORANGE, "#3c8d5a", "#a04a7f", "#6b5fb5", GRAY)
"""Line colors, in this order."""

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
    """Return a matplotlib figure (inches) that needs no display, and its panels; `rows` holds relative heights."""
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
    """Write a figure as PNG, with the same bytes for the same figure, and return its path."""
    target = Path(path)
    try:
        with atomic_writer(target, durable=False) as stream:
            figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def plot_confusion(scores: Scores, path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw the row-normalized confusion matrix with the count in every cell; rule and N belong in the title."""
    figure, axes = new_figure(7.6, 6.6)
    counts = np.array(scores.confusion_matrix, dtype=np.float64)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    places = range(len(scores.classes))
    axes.set_xticks(places, scores.classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [f"{name} ({scores.support[name]:,})" for name in scores.classes])
    for row in places:
        for column in places:
            if not counts[row, column]:
                continue
            text = f"{100 * shares[row, column]:.1f} %\n{int(counts[row, column]):,}"
            color = "white" if shares[row, column] > 0.55 else "#1a1a1a"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7.5)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    set_title(axes, title)
    return write_figure(figure, path)


def plot_reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    path: str | os.PathLike[str],
    *,
    before: ArrayLike | None = None,
    bins: int = 15,
    title: str = "",
) -> Path:
    """Draw accuracy and count per bin of confidence (N,); `before` is the confidence without the temperature."""
    count, sure, accuracy = reliability_bins(confidence, correct, bins)
    error = f"calibration error {_calibration_error(count, sure, accuracy):.2%}"
    figure, (axes, below) = new_figure(6.0, 6.4, rows=(3, 1))
    edges, width = np.arange(bins) / bins, 1.0 / bins
    filled = count > 0
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.bar(edges[filled], accuracy[filled], width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    axes.plot(sure[filled], accuracy[filled], "o", color=ORANGE, markersize=4, label="mean confidence of the slice")
    if before is not None:
        raw_count, raw_sure, raw_accuracy = reliability_bins(before, correct, bins)
        error += f", {_calibration_error(raw_count, raw_sure, raw_accuracy):.2%} without temperature"
        there = raw_count > 0
        line = {"color": "#a04a7f", "linewidth": 1, "marker": "o", "markersize": 4, "markerfacecolor": "none"}
        axes.plot(raw_sure[there], raw_accuracy[there], label="without temperature", **line)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", xticklabels=[])
    axes.legend(frameon=False, loc="upper left", fontsize=9, title=error, title_fontsize=9, alignment="left")
    below.bar(edges, count / max(1, count.sum()), width, align="edge", color=GRAY, edgecolor="white")
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="share of predictions")
    set_title(axes, title)
    return write_figure(figure, path)


def _calibration_error(count: Ints, sure: Floats, accuracy: Floats) -> float:
    return float(np.nansum(np.abs(sure - accuracy) * count) / max(1, count.sum()))


def plot_training_curves(metrics: str | os.PathLike[str], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw accuracy, losses, heads and learning rate by epoch from a run's `metrics.jsonl`; skip what is missing."""
    try:
        rows = [_flat(row) for row in read_json_lines(metrics) if "epoch" in row]
    except OSError as error:
        raise DataError(f"{os.fspath(metrics)}: cannot be read: {error.strerror or error}") from error
    chosen = {name: drawn for name, lines in _panels(rows).items() if (drawn := _with_points(rows, lines))}
    if not chosen:
        raise DataError(f"{os.fspath(metrics)}: holds no number to draw yet")
    figure, panels = new_figure(
        9.0, 1.0 + 2.6 * math.ceil(len(chosen) / 2), rows=(1,) * math.ceil(len(chosen) / 2), columns=2
    )
    panels = np.atleast_1d(panels).ravel()
    for axes in panels[len(chosen) :]:
        axes.remove()
    for axes, (name, lines) in zip(panels, chosen.items(), strict=False):
        _draw_panel(axes, name, lines)
        _mark_sizes(axes, rows)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return write_figure(figure, path)


Points = list[tuple[float, float]]


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Heading of each panel -> name of each line -> key of a flattened row."""
    known = {"train.loss", "train.cross_entropy", "train.accuracy", "train.n"}
    parts = sorted({key for row in rows for key in row if key.startswith("train.")} - known)
    heads = sorted({key for row in rows for key in row if key.startswith("head_means.")})
    # Where the loss is the cross-entropy, one panel shows it.
    apart = any(row.get("train.loss") != row.get("train.cross_entropy") for row in rows)
    return {
        "accuracy": {
            "train": "train.accuracy",
            "validation": "valid.accuracy",
            "validation, mean of classes": "valid.mean_class_accuracy",
        },
        "cross-entropy": {"train": "train.cross_entropy", "validation": "valid.nll"},
        "loss": {"train": "train.loss"} if apart else {},
        "other parts of the loss": {key.removeprefix("train.").replace("_", " "): key for key in parts},
        "mean of a head's map": {f"head {number + 1}": key for number, key in enumerate(heads)},
        "learning rate": {"at the end of the epoch": "lr"},
    }


def _with_points(rows: Sequence[Mapping[str, Any]], lines: Mapping[str, str]) -> dict[str, Points]:
    """Return the lines that have points, each as (epoch, value)."""
    found = {
        name: [(row["epoch"], row[key]) for row in rows if _is_number(row.get(key))] for name, key in lines.items()
    }
    return {name: points for name, points in found.items() if points}


def _draw_panel(axes: Any, name: str, lines: Mapping[str, Points]) -> None:
    for number, (label, points) in enumerate(lines.items()):
        style = {"marker": "o", "markersize": 3} if len(points) < 12 else {}
        axes.plot(*zip(*points, strict=True), label=label, color=COLORS[number % len(COLORS)], **style)
    set_title(axes, name)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    values = [value for points in lines.values() for _, value in points]
    if name == "accuracy":
        # The curves start near chance level; their end matters.
        axes.set_ylim(max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.03))
    elif min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _mark_sizes(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a thin line where the image size changes, since the curves jump there."""
    for before, after in pairwise(rows):
        if before.get("side_px") != after.get("side_px"):
            place = (before["epoch"] + after["epoch"]) / 2
            axes.axvline(place, color=GRAY, linewidth=0.8, linestyle=":")
            axes.annotate(
                f"{after['side_px']} px",
                (place, 0.5),
                xycoords=("data", "axes fraction"),
                xytext=(2, 0),
                textcoords="offset points",
                rotation=90,
                va="center",
                fontsize=7,
                color=GRAY,
            )


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten to one level of keys: `{"train": {"loss": 1}, "heads": [2]}` to `{"train.loss": 1, "heads.0": 2}`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif isinstance(value, list):
            flat |= {f"{key}.{number}": inner for number, inner in enumerate(value)}
        else:
            flat[key] = value
    return flat


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
