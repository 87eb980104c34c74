"""Figures of an evaluation: confusion matrix, reliability, robustness."""

import json
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddamfn.errors import DataError, MissingExtra
from ddamfn.evaluate.metrics import Floats, Ints, reliability_bins
from ddamfn.evaluate.robustness_report import LARGEST_MILD_DROP, LevelResult, Robustness
from ddamfn.evaluate.scores import Scores

BLUE, ORANGE, GRAY = "#2f6db3", "#d9822b", "#8a8a8a"
COLORS = (BLUE, ORANGE, "#3c8d5a", "#a04a7f", "#6b5fb5", GRAY)
"""Colors of lines, in this order."""

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


def plot_confusion(scores: Scores, path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw the row-normalized confusion matrix with the count in every cell.

    Args:
        scores: what to draw.
        path: the PNG file to write.
        title: one line above; rule and N belong into it.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
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
    axes.set_xlabel("answered")
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
    """Draw how often answers of each confidence are right, and how many there are.

    Args:
        confidence: (N,) in 0..1.
        correct: bool (N,).
        path: the PNG file to write.
        before: (N,) the same answers' confidence without the temperature, to draw beside; None leaves it out.
        bins: slices of 0..1.
        title: one line above.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    count, sure, right = reliability_bins(confidence, correct, bins)
    error = f"calibration error {_calibration_error(count, sure, right):.2%}"
    figure, (axes, below) = new_figure(6.0, 6.4, rows=(3, 1))
    edges, width = np.arange(bins) / bins, 1.0 / bins
    filled = count > 0
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.bar(edges[filled], right[filled], width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    axes.plot(sure[filled], right[filled], "o", color=ORANGE, markersize=4, label="mean confidence of the slice")
    if before is not None:
        raw_count, raw_sure, raw_right = reliability_bins(before, correct, bins)
        error += f", {_calibration_error(raw_count, raw_sure, raw_right):.2%} without temperature"
        there = raw_count > 0
        line = {"color": "#a04a7f", "linewidth": 1, "marker": "o", "markersize": 4, "markerfacecolor": "none"}
        axes.plot(raw_sure[there], raw_right[there], label="without temperature", **line)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", xticklabels=[])
    axes.legend(frameon=False, loc="upper left", fontsize=9, title=error, title_fontsize=9, alignment="left")
    below.bar(edges, count / max(1, count.sum()), width, align="edge", color=GRAY, edgecolor="white")
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="share of answers")
    set_title(axes, title)
    return write_figure(figure, path)


def _calibration_error(count: Ints, sure: Floats, right: Floats) -> float:
    return float(np.nansum(np.abs(sure - right) * count) / max(1, count.sum()))


def plot_training_curves(metrics: str | os.PathLike[str], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw a training run: accuracy, loss and its parts, heads and learning rate against the epoch.

    Args:
        metrics: the run's `metrics.jsonl`, one JSON object an epoch; what a panel needs and a run lacks is left out.
        path: the PNG file to write.
        title: one line above.

    Raises:
        DataError: if the record cannot be read or holds no number yet.
        MissingExtra: if matplotlib is not installed.
    """
    rows = [_flat(row) for row in _read_records(metrics)]
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


def plot_robustness(result: Robustness, path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw accuracy, mean class accuracy and agreement with the clean answers against the strength of each change.

    Args:
        result: what was measured.
        path: the PNG file to write.
        title: one line above; weights, rule and N belong into it.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    changes: dict[str, list[LevelResult]] = {}
    for entry in result.levels:
        changes.setdefault(entry.perturbation, []).append(entry)
    rows = math.ceil(len(changes) / _PANELS_A_ROW)
    figure, panels = new_figure(12.0, 0.9 + 2.5 * rows, rows=(1,) * rows, columns=_PANELS_A_ROW)
    panels = np.atleast_1d(panels).ravel()
    lowest = min(min(e.ci95[0], e.scores.mean_class_accuracy) for e in result.levels)
    for axes, (name, entries) in zip(panels, changes.items(), strict=False):
        _draw_change(axes, result, entries)
        axes.set_ylim(max(0.0, lowest - 0.05), 1.0)
        verdict = next((entry.verdict for entry in entries if entry.verdict), None)
        set_title(axes, f"{name}, mild: {verdict}" if verdict else name)
    for axes in panels[len(changes) :]:
        axes.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return write_figure(figure, path)


_PANELS_A_ROW = 4


def _draw_change(axes: Any, result: Robustness, entries: Sequence[LevelResult]) -> None:
    """Draw one change: from the unchanged faces at the left to its severest level."""
    scored = [result.clean, *(entry.scores for entry in entries)]
    places, accuracy = range(len(scored)), np.array([scores.accuracy for scores in scored])
    intervals = [result.clean.ci95, *(entry.ci95 for entry in entries)]
    reach = np.abs(np.array(intervals).T - accuracy)
    allowed = result.clean.accuracy - LARGEST_MILD_DROP
    axes.axhline(allowed, color=GRAY, linewidth=1, linestyle=(0, (4, 3)), label="3 points below unchanged")
    axes.plot(places, [1.0, *(e.agreement for e in entries)], ":", color=COLORS[2], label="same answer as unchanged")
    means = [scores.mean_class_accuracy for scores in scored]
    axes.plot(places, means, "o-", color=ORANGE, markersize=3, linewidth=1.2, label="mean class accuracy")
    axes.errorbar(places, accuracy, yerr=reach, fmt="o-", color=BLUE, markersize=4, capsize=2, label="accuracy, 95 %")
    words = ["\n".join(textwrap.wrap(entry.strength, 10)) for entry in entries]
    axes.set_xticks(places, ["clean", *words], fontsize=7.5)
    axes.set_xlim(-0.3, 3.3)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


Points = list[tuple[float, float]]


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Heading of each panel -> name of each line -> key of a flattened row."""
    told_apart = {"train.loss", "train.cross_entropy", "train.accuracy", "train.n"}
    parts = sorted({key for row in rows for key in row if key.startswith("train.")} - told_apart)
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
    """The lines that have a point, each as (epoch, value)."""
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
        # Three lines start near chance; the end is what is looked at.
        axes.set_ylim(max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.03))
    elif min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _mark_sizes(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """A thin line where the images' size changes: the curves jump there, and not because of learning."""
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
    """One level of keys: `{"train": {"loss": 1}, "heads": [2]}` becomes `{"train.loss": 1, "heads.0": 2}`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif isinstance(value, list):
            flat |= {f"{key}.{number}": inner for number, inner in enumerate(value)}
        else:
            flat[key] = value
    return flat


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
