"""The page and chart of a robustness measurement: tables with n, N and intervals, and a verdict."""

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddamfn.evaluate.plots import BLUE, COLORS, GRAY, ORANGE, new_figure, set_title, write_figure
from ddamfn.evaluate.robustness_report import (
    FAILS,
    HOLDS,
    LARGEST_FLIP_RATE,
    LARGEST_MILD_DROP,
    LIKELY,
    OPEN,
    FlipRate,
    LevelResult,
    Robustness,
)

_PANELS_PER_ROW = 4
_ROOMY_LEVELS = 3
"""How many levels a panel labels in full."""


def markdown(result: Robustness, chart: str | None = None) -> str:
    """Return the measurement as Markdown.

    Args:
        result: the measurement.
        chart: the chart's file name next to the page, or None.
    """
    blocks = [_subject(result), _verdict(result)]
    if chart is not None:
        blocks.append(f"![accuracy under each change, from mild on]({chart})")
    blocks.append("\n".join(_levels_table(result)))
    if result.flips is not None:
        blocks.append(_flips(result.flips))
    blocks.append(_HOW)
    return "\n\n".join(blocks) + "\n"


_HOW = """\
Pixels are changed in the aligned crop of 112 px, before preprocessing; lengths are in pixels of that crop. For
rotation and landmark jitter the landmarks are moved and the face is realigned from its image. For networks with
another input size the crop of 112 px is resized, changed or not. A face gets the same random numbers at every
strength. At the mild level random changes are drawn several times per face, because one draw of a few thousand
faces is noisy; n counts the draws, and every interval counts each face once. "Drop" is the accuracy lost on the
same faces, in points; its interval is for paired proportions (Agresti & Min 2005), the others are Wilson's, all at
95 %. "Same prediction" is the share of faces with the same prediction as unchanged, correct or not. A verdict is
"holds" or "fails" if the whole interval is on that side of the limit."""


def _subject(result: Robustness) -> str:
    copy = f" ({result.note.split(';')[0]})" if result.note else ""
    rule = f"rule {result.rule}" if result.rule else "one label per image"
    left_out = [f"{result.faceless:,} without a face found"] if result.faceless else []
    left_out += [f"{result.unreadable:,} unreadable"] if result.unreadable else []
    images = "all" if result.chosen == result.total else f"{result.chosen:,} at random (seed {result.seed})"
    clean = result.clean
    return (
        f"`{result.weights}` on {result.title}{copy}, split {result.split}, {rule}: {images} of {result.total:,} "
        f"images{'; left out: ' + ', '.join(left_out) if left_out else ''}. Unchanged: accuracy "
        f"{_points(clean.accuracy)} % ({clean.correct:,}/{clean.n:,}, {_interval(clean.ci95)}), mean class accuracy "
        f"{_points(clean.mean_class_accuracy)} %."
    )


def _verdict(result: Robustness) -> str:
    verdicts = result.verdicts()
    counts = [f"{verdicts.count(word)} {word}" for word in (HOLDS, LIKELY, OPEN, FAILS) if word in verdicts]
    criterion = (
        f"Criterion: no mild level loses more than {100 * LARGEST_MILD_DROP:g} points of accuracy, and no more than "
        f"{100 * LARGEST_FLIP_RATE:g} % of predictions change under the mild landmark jitter. "
        f"Of {len(verdicts)} figures: **{'; '.join(counts)}**."
    )
    rows = [("mild level", "strength", "figure", "95 %", "allowed", "verdict"), ("---", "---", *["---:"] * 3, "---")]
    for entry in result.levels:
        if entry.verdict is not None:
            figures = (f"drop {_points(entry.drop)}", _interval(entry.drop_ci95), f"{100 * LARGEST_MILD_DROP:g}")
            rows.append((entry.perturbation, entry.wording, *figures, _marked(entry.verdict)))
    if result.flips is not None:
        flips = result.flips
        figures = (f"flips {_points(flips.rate)}", _interval(flips.ci95), f"{100 * LARGEST_FLIP_RATE:g}")
        rows.append(("landmark jitter", f"{flips.strength}, {flips.draws} draws", *figures, _marked(flips.verdict)))
    rows += [(name, "", "", "", "", f"not measured: {reason}") for name, reason in result.skipped.items()]
    return criterion + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _marked(verdict: str) -> str:
    return f"**{verdict}**" if verdict == FAILS else verdict


def _levels_table(result: Robustness) -> list[str]:
    head = ("change", "level", "strength", "accuracy %", "n/N", "95 %", "class mean %", "drop", "95 %", "same %")
    rows = [head, tuple("---" if place < 3 else "---:" for place in range(len(head)))]
    before = ""
    for entry in result.levels:
        scores = entry.scores
        numbers = (_points(scores.accuracy), f"{scores.correct:,}/{scores.n:,}", _interval(entry.ci95))
        change = (_points(scores.mean_class_accuracy), _points(entry.drop), _interval(entry.drop_ci95))
        name = entry.perturbation if entry.perturbation != before else ""
        rows.append((name, entry.level, entry.wording, *numbers, *change, _points(entry.agreement, 1)))
        before = entry.perturbation
    return [f"| {' | '.join(row)} |" for row in rows]


def _flips(flips: FlipRate) -> str:
    return (
        f"Landmark jitter of {flips.strength}, {flips.draws} draws per face: {flips.flips:,} of "
        f"{flips.draws * flips.n:,} predictions differ from the unchanged face's, {_points(flips.rate)} % "
        f"({_interval(flips.ci95)}); {flips.ever:,} of {flips.n:,} faces differ in at least one draw."
    )


def _points(share: float, digits: int = 2) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return f"{round(100 * share, digits) + 0.0:.{digits}f}"


def _interval(ends: Sequence[float]) -> str:
    return f"{_points(ends[0], 1)} to {_points(ends[1], 1)}"


def plot_robustness(result: Robustness, path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw accuracy, mean class accuracy and agreement with the clean predictions against the strength of each change.

    Args:
        result: the measurement.
        path: the PNG file to write.
        title: one line with weights, rule and N.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    changes: dict[str, list[LevelResult]] = {}
    for entry in result.levels:
        changes.setdefault(entry.perturbation, []).append(entry)
    rows = math.ceil(len(changes) / _PANELS_PER_ROW)
    figure, panels = new_figure(12.0, 0.9 + 2.5 * rows, rows=(1,) * rows, columns=_PANELS_PER_ROW)
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


def _draw_change(axes: Any, result: Robustness, entries: Sequence[LevelResult]) -> None:
    """Draw one change, from the unchanged faces on the left to its most severe level."""
    scored = [result.clean, *(entry.scores for entry in entries)]
    places, accuracy = range(len(scored)), np.array([scores.accuracy for scores in scored])
    intervals = [result.clean.ci95, *(entry.ci95 for entry in entries)]
    reach = np.abs(np.array(intervals).T - accuracy)
    allowed = result.clean.accuracy - LARGEST_MILD_DROP
    axes.axhline(allowed, color=GRAY, linewidth=1, linestyle=(0, (4, 3)), label="3 points below unchanged")
    axes.plot(
        places, [1.0, *(e.agreement for e in entries)], ":", color=COLORS[2], label="same prediction as unchanged"
    )
    means = [scores.mean_class_accuracy for scores in scored]
    axes.plot(places, means, "o-", color=ORANGE, markersize=3, linewidth=1.2, label="mean class accuracy")
    axes.errorbar(places, accuracy, yerr=reach, fmt="o-", color=BLUE, markersize=4, capsize=2, label="accuracy, 95 %")
    strengths = [entry.strength for entry in entries]
    if len(strengths) > _ROOMY_LEVELS and len({strength.split()[0] for strength in strengths}) == 1:
        strengths = [strength.partition(" ")[2] for strength in strengths]  # "brightness" five times does not fit
    words = ["\n".join(textwrap.wrap(strength, 10)) for strength in strengths]
    axes.set_xticks(places, ["clean", *words], fontsize=7.5)
    axes.set_xlim(-0.3, max(len(words), _ROOMY_LEVELS) + 0.3)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
