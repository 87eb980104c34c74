"""MODEL_CARD.md's section of one weights file, made of its card and of the measurement of robustness."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddamfn.data import CARDS
from ddamfn.errors import UsageError
from ddamfn.weights import Card, threshold_for

_POOR_RECALL = 0.6
"""Classes that are answered right less often are named among the failures."""
_SWITCHED_OFF = 0.95
"""Mean of the heads' maximum from which on attention hardly weighs anything."""


def describe(card: Card, measured: Mapping[str, Any] | None) -> list[str]:
    """Return the blocks of one weights file's section.

    Args:
        card: of the weights.
        measured: content of the newest robustness.json of the same file; None if there is none.
    """
    blocks = [f"### {card.name}", table(("what", "value"), _facts(card))]
    scores = [row for score in card.scores for row in _score_rows(score)]
    if scores:
        head = ("scored on", "correct of N", "accuracy", "95 % interval", "mean class accuracy", "macro-F1", "ECE")
        blocks += [table(head, scores), *_flip_averaged(card), recalls(card), *failures(card)]
    blocks += [*attention(card), *abstention(card), robustness(measured)]
    return [*blocks, f"Rights: {card.rights}"]


def read_robustness(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the newest measurement of robustness of each weights file, by its sha256.

    Args:
        folder: docs/benchmarks, where `benchmarks/robustness.py` writes.
    """
    # Names begin with the date, so the last of a file's measurements is the newest.
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-robustness.json"))]
    return {measured["sha256"]: measured for measured in found}


def _facts(card: Card) -> list[tuple[str, str]]:
    made, training, alignment = card.architecture, card.training, card.alignment
    detail = card.appearance["detail_px"]
    facts = [
        ("network", f"{made['name']}, {made['num_heads']} heads, {made['parameters']:,} parameters"),
        ("cost of one face", f"{made['gmac']:.3f} GMAC at {card.input_side_px} px"),
        ("file", f"`{card.file}`, weights stored as {card.precision}"),
        ("sha256", f"`{card.sha256}`"),
        ("labels, in order of the outputs", ", ".join(card.labels)),
        ("alignment", f"template {alignment['template']}, margin {alignment['margin']:g}, {alignment['side_px']} px"),
        ("detector", alignment["detector"]),
        ("look", f"{card.appearance['colour']}, detail of {detail} px" if detail else card.appearance["colour"]),
        ("mean, std", f"{_numbers(card.mean)}; {_numbers(card.std)}"),
        ("temperature", f"{card.temperature:.4f}; {training.get('temperature', 'not recorded')}"),
        ("trained on", f"{training.get('data', 'not recorded')}, rule {training.get('rule', 'not recorded')}"),
        ("recipe", f"`{training.get('recipe', 'not recorded')}`, seed {training.get('seed', 'not recorded')}"),
        ("epochs", str(training.get("epochs", "not recorded"))),
        ("commit", f"`{training.get('commit', 'not recorded')}`"),
        ("command", f"`{training.get('command', 'not recorded')}`"),
        *([("exported by", f"`{training['export_command']}`")] if "export_command" in training else []),
        *(
            (key, _words(training[key]))
            for key in ("initial", "distillation", "teachers", "objective")
            if key in training
        ),
        ("selection", str(training.get("selection", "not recorded"))),
    ]
    valid = training.get("validation")
    if valid:
        facts.append(
            (
                f"validation, rule {valid['rule']}",
                f"{valid['correct']:,} of {valid['n']:,}, {percent(valid['accuracy'])} ({interval(valid)}), mean class "
                f"accuracy {percent(valid['mean_class_accuracy'])}",
            )
        )
    if "seeds" in training:
        facts.append((f"validation, {len(training['seeds']['runs'])} seeds", seeds(training["seeds"])))
    adjusted = training.get("logit_adjustment")
    if adjusted:
        before = adjusted["validation_before"]
        facts.append(
            (
                "logit adjustment",
                f"tau {adjusted['tau']:g}, {adjusted['chosen']}; without it {before['correct']:,} of {before['n']:,}, "
                f"mean class accuracy {percent(before['mean_class_accuracy'])}",
            )
        )
    if "note" in training:
        facts.append(("note", str(training["note"])))
    parity = training.get("parity")
    if parity:
        facts.append(
            (
                "export gate",
                f"{parity['faces']}: {parity['changed']} answers changed, logits differ by at most "
                f"{parity['logit_difference']:.1e} of the face's largest (of 1 if that is smaller), attention by "
                f"{parity['attention_difference']:.1e}",
            )
        )
    return [*facts, *_calibration(card), ("licence", card.licence)]


def seeds(record: Mapping[str, Any]) -> str:
    """Return in words what each seed of a recipe reached on validation."""
    each = ", ".join(f"{run['correct']:,} (seed {run['seed']})" for run in record["runs"])
    return (
        f"{each} of {record['runs'][0]['n']:,}; {percent(record['mean'])} with a deviation of "
        f"{100 * record['deviation']:.2f} points"
    )


def _calibration(card: Card) -> list[tuple[str, str]]:
    """Return what is known of the confidence on validation."""
    known = card.calibration
    if known is None:
        return []
    before, after = percent(known["ece_before"]), percent(known["ece_after"])
    words = f"{before} without the temperature, {after} with it, {known['n']:,} validation pictures"
    return [(f"calibration error, {known['bins']} slices", words)]


def _score_rows(score: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            title,
            f"{part['correct']:,} of {part['n']:,}",
            percent(part["accuracy"]),
            interval(part),
            percent(part["mean_class_accuracy"]),
            f"{part['macro_f1']:.4f}",
            f"{part['ece']:.4f}",
        )
        for title, part in parts(score)
    ]


def recalls(card: Card) -> str:
    """Return the table of recalls: a row a class, a column a score."""
    titles = [next(iter(parts(score)))[0] for score in card.scores]
    rows = []
    for name in card.labels:
        cells = []
        for score in card.scores:
            recall, n = score["per_class_recall"].get(name), score["support"].get(name, 0)
            cells.append("-" if recall is None else f"{percent(recall)} of {n:,}")
        rows.append((name, *cells))
    return table(("recall of", *titles), rows)


def _flip_averaged(card: Card) -> list[str]:
    """Say, apart from the table, what averaging with the mirrored face scored where that was measured."""
    lines = []
    for score in card.scores:
        averaged = score.get("flip_averaged")
        if averaged:
            title, _ = next(iter(parts(score)))
            lines.append(
                f"Averaged with the mirrored face, which `ddamfn predict` does not do: {title}, "
                f"{averaged['correct']:,} of {averaged['n']:,}, {percent(averaged['accuracy'])} "
                f"({interval(averaged)}), mean class accuracy {percent(averaged['mean_class_accuracy'])}."
            )
    return lines


def failures(card: Card) -> list[str]:
    """Name the classes that are answered poorly on test, and what they are taken for."""
    score = card.score("test")
    if score is None:
        return []
    matrix, classes = score["confusion_matrix"], score["classes"]
    answered = {name: sum(row[place] for row in matrix) for place, name in enumerate(classes)}
    lines = []
    for place, name in enumerate(classes):
        n, right = sum(matrix[place]), matrix[place][place]
        if not n or right / n >= _POOR_RECALL:
            continue
        others = sorted(((count, classes[i]) for i, count in enumerate(matrix[place]) if i != place), reverse=True)
        taken = " and ".join(f"{other} ({count:,})" for count, other in others[:2] if count)
        never = "; never answered" if not answered[name] else ""
        lines.append(f"- {name}: {right:,} of {n:,} right, most others taken for {taken}{never}")
    title, _ = next(iter(parts(score)))
    limit = f"{100 * _POOR_RECALL:g} %"
    if not lines:
        return [f"No class of {title} is answered right less often than {limit}."]
    return [f"Classes of {title} that are answered right less often than {limit}:", "\n".join(lines)]


def attention(card: Card) -> list[str]:
    """Say whether the heads differ, and whether the attention weighs anything."""
    known = card.training.get("attention") or {}
    if "joined_mean" not in known:
        return []
    means = " and ".join(f"{mean:.2f}" for mean in known["head_means"])
    joined = known["joined_mean"]
    off = (
        "so near one that the attention is all but switched off"
        if joined >= _SWITCHED_OFF
        else "below one, so the attention weighs"
    )
    return [
        f"Attention on validation: the heads' maps have means of {means}, and a mean squared difference of "
        f"{known['head_difference']:.3f}. Their maximum, which multiplies the features, has a mean of {joined:.3f}: "
        f"{off}."
    ]


def abstention(card: Card) -> list[str]:
    """Return what `--abstain` keeps: thresholds and coverage on validation, and what came of them on test."""
    known = card.calibration
    if known is None:
        return []
    score = card.score("test") or {}
    scored = {entry["asked"]: entry for entry in score.get("abstention", ())}
    rows = []
    for precision in (0.8, 0.85, 0.9, 0.95, 0.98, 0.99):
        try:
            threshold = threshold_for(known, precision)
        except UsageError:
            rows.append((f"{precision:g}", "not reached on validation", "-", "-", "-"))
            continue
        coverage = known["coverage"][known["thresholds"].index(threshold)]
        there = scored.get(precision)
        test = ("-", "-")
        if there and there["answered"]:
            right = f"{there['correct']:,} of {there['answered']:,} = {percent(there['precision'])}"
            test = (f"{100 * there['coverage']:.0f} %", f"{right} ({interval(there)})")
        rows.append((f"{precision:g}", f"{threshold:.3f}", f"{100 * coverage:.0f} %", *test))
    head = ("`--abstain`", "from a confidence of", "answers on validation", "answers on test", "right on test")
    return [table(head, rows)]


def robustness(measured: Mapping[str, Any] | None, *, linked: bool = True) -> str:
    """Return the table of changes: accuracy lost at each level, and the verdict on the mild one.

    Args:
        measured: as for `describe`.
        linked: link the report, as seen from the repository's root; else only name it.
    """
    if measured is None:
        return "Robustness to blur, noise, light, rotation and covered faces: not measured on these weights."
    levels: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in measured["levels"]:
        levels.setdefault(entry["perturbation"], {})[entry["level"]] = entry
    rows = []
    for name, known in levels.items():
        cells = [_drop(known[level]) if level in known else "-" for level in ("mild", "medium", "severe")]
        rows.append((name, *cells, str(known["mild"]["verdict"])))
    drawn = max(entry.get("draws", 1) for entry in measured["levels"])
    flips, clean, report = measured["flips"], measured["clean"], f"docs/benchmarks/{measured['page']}"
    if flips is not None:
        low, high = (100 * end for end in flips["ci95"])
        rate = f"{flips['strength']}: {100 * flips['rate']:.1f} % ({low:.1f} to {high:.1f})"
        rows.append(("answers flipped by landmark jitter", rate, "-", "-", flips["verdict"]))
    head = ("change", "mild", "medium", "severe", "mild: at most 3 points lost, 5 % flipped")
    subject = (
        f"Points of accuracy lost when the same {clean['n']:,} faces of {measured['title']} {measured['split']} come "
        f"worse ({percent(clean['accuracy'])} unchanged"
        + (f"; mild changes by chance are means of {drawn} draws" if drawn > 1 else "")
        + "); intervals, mean class accuracy and agreement are in "
        + (f"[{measured['page']}]({report})." if linked else f"`{report}`.")
    )
    skipped = [f" Not measured: {name} ({reason})." for name, reason in measured["skipped"].items()]
    return "\n\n".join([subject + "".join(skipped), table(head, rows)])


def _drop(entry: Mapping[str, Any]) -> str:
    return f"{entry['strength']}: {100 * entry['drop']:z.1f}"


def _words(value: Any) -> str:
    """A setting of the run in one line."""
    return f"`{json.dumps(value, ensure_ascii=False)}`" if isinstance(value, dict | list) else f"`{value}`"


def parts(score: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield a score's title and figures, and those without the pictures that also stand in train."""
    known = CARDS.get(score["dataset"])
    title = f"{known.title if known else score['dataset']} {score['split']}"
    if score.get("rule") != "single label":
        title += f", rule {score['rule']}"
    yield title + ("" if score.get("official", True) else " (not the official split)"), score
    cleaned = score.get("duplicate_free")
    if cleaned:
        yield f"{title}, without {cleaned['removed']:,} twins of training pictures", cleaned


def interval(part: Mapping[str, Any]) -> str:
    """Write the 95 % interval of a share."""
    low, high = part["ci95"]
    return f"{percent(low)} to {percent(high)}"


def percent(share: float) -> str:
    """Write a share with two digits."""
    return f"{100 * share:.2f} %"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
