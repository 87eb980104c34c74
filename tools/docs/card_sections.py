"""MODEL_CARD.md's section on one weights file, from its card and its robustness report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddamfn.data import CARDS
from ddamfn.errors import UsageError
from ddamfn.evaluate.perturbations import LEVELS
from ddamfn.weights import Card, threshold_for

_POOR_RECALL = 0.6
"""Classes with a lower recall are listed as failures."""
_SWITCHED_OFF = 0.95
"""Max attention mean from which on attention is nearly the identity."""


def describe(card: Card, measured: Mapping[str, Any] | None) -> list[str]:
    """Return the blocks of the section on one weights file.

    Args:
        card: the card of the weights.
        measured: content of the newest robustness.json of the same card, or None.
    """
    blocks = [f"### {card.name}", table(("what", "value"), _facts(card))]
    scores = [row for score in card.scores for row in _score_rows(score)]
    if scores:
        head = ("scored on", "correct of N", "accuracy", "95 % interval", "mean class accuracy", "macro-F1", "ECE")
        blocks += [table(head, scores), *_flip_averaged(card), *people([card]), *agreement(card)]
        blocks += [recalls(card), *failures(card)]
    blocks += [*attention(card), *abstention(card), *class_prior(card), robustness(measured)]
    return [*blocks, f"Rights: {card.rights}"]


def read_robustness(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the newest robustness report of each card, by its `robustness_key`.

    Args:
        folder: docs/benchmarks, where `benchmarks/robustness.py` writes.
    """
    # Names start with the date, so the last report of a file is the newest.
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-robustness.json"))]
    return {robustness_key(measured["sha256"], measured.get("preprocessing")): measured for measured in found}


def robustness_key(sha256: str, preprocessing: Mapping[str, Any] | None) -> str:
    """Return what a robustness report is of: a network, and the preprocessing that its card had then."""
    return f"{sha256} {json.dumps(preprocessing, sort_keys=True)}"


def _facts(card: Card) -> list[tuple[str, str]]:
    made, training, alignment = card.architecture, card.training, card.alignment
    facts = [
        ("network", f"{made['name']}, {made['num_heads']} heads, {made['parameters']:,} parameters"),
        ("cost of one face", f"{made['gmac']:.3f} GMAC at {card.input_side_px} px"),
        ("file", f"`{card.file}`, weights stored as {card.precision}"),
        ("sha256", f"`{card.sha256}`"),
        ("labels, in order of the outputs", ", ".join(card.labels)),
        ("alignment", f"template {alignment['template']}, margin {alignment['margin']:g}, {alignment['side_px']} px"),
        ("detector", alignment["detector"]),
        ("preprocessing", _preprocessing(card)),
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
    return [*facts, *_validation(training), *_conversion(card), *_calibration(card), ("license", card.license)]


def _preprocessing(card: Card) -> str:
    """Return color, stretch and detail in one line."""
    detail, stretch = card.preprocessing["detail_px"], card.preprocessing.get("stretch")
    words = [card.preprocessing["color"]]
    if stretch is not None:
        words.append(
            f"fewer than {stretch['least_range']} gray levels (without {stretch['clip_percent']:g} % of the pixels at "
            f"either end) stretched to {stretch['least_range']}, at most {stretch['largest_gain']}-fold"
        )
    return ", ".join([*words, *([f"detail of {detail} px"] if detail else [])])


def _conversion(card: Card) -> list[tuple[str, str]]:
    """Return the command that made the file from other weights, and its accuracy on validation, as far as recorded."""
    made = card.export or {}
    facts = [("converted by", f"`{made['command']}`")] if "command" in made else []
    valid = made.get("validation")
    if valid:
        words = f"{valid['correct']:,} of {valid['n']:,}, {percent(valid['accuracy'])}"
        facts.append((f"validation after it, rule {valid['rule']}", words))
    return facts


def _validation(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the validation scores, the logit adjustment and the export gate, as far as recorded."""
    facts: list[tuple[str, str]] = []
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
                f"{parity['faces']}: {parity['changed']} predictions changed; largest difference of logits "
                f"{parity['logit_difference']:.1e} (relative to the face's largest logit, or to 1 if that is smaller), "
                f"of attention {parity['attention_difference']:.1e}",
            )
        )
    return facts


def seeds(record: Mapping[str, Any]) -> str:
    """Return the validation scores of a recipe's seeds in one line."""
    each = ", ".join(f"{run['correct']:,} (seed {run['seed']})" for run in record["runs"])
    return (
        f"{each} of {record['runs'][0]['n']:,}; mean {percent(record['mean'])}, deviation "
        f"{100 * record['deviation']:.2f} points"
    )


def _calibration(card: Card) -> list[tuple[str, str]]:
    """Return the calibration error on validation."""
    known = card.calibration
    if known is None:
        return []
    before, after = percent(known["ece_before"]), percent(known["ece_after"])
    words = (
        f"{before} before temperature scaling, {after} after, {known['n']:,} validation images, rule {known['rule']}"
    )
    facts = [(f"ECE, {known['bins']} bins", words)]
    agreed = known.get("majority")
    if agreed:
        before, after = percent(agreed["ece_before"]), percent(agreed["ece_after"])
        facts.append(("ECE of those with a majority", f"{before} before, {after} after, {agreed['n']:,} images"))
    return facts


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
    """Return the table of recalls: one row per class, one column per score."""
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
    """Return the flip-averaged scores, if they were measured."""
    lines = []
    for score in card.scores:
        averaged = score.get("flip_averaged")
        if averaged:
            title, _ = next(iter(parts(score)))
            lines.append(
                f"Flip-averaged, which `ddamfn predict` does not do: {title}, "
                f"{averaged['correct']:,} of {averaged['n']:,}, {percent(averaged['accuracy'])} "
                f"({interval(averaged)}), mean class accuracy {percent(averaged['mean_class_accuracy'])}."
            )
    return lines


def people(cards: Sequence[Card]) -> list[str]:
    """Return the table of the weights beside the annotators of their test images, none where it was not measured."""
    rows = []
    for card in cards:
        for score in card.scores:
            known = score.get("people")
            if known and score["split"] == "test":
                figures = (known[name] for name in ("annotator", "network", "ceiling", "network_redrawn"))
                title, _ = next(iter(parts(score)))
                rows.append((f"`{card.name}`", title, *map(percent, figures)))
    if not rows:
        return []
    head = ("weights", "beside people on", "one annotator agrees with the others", "the weights do")
    return [table((*head, "ceiling: votes drawn anew", "the weights against the same"), rows)]


def agreement(card: Card) -> list[str]:
    """Return the table of accuracies by how many of ten annotators agree, a column per score."""
    known = [score for score in card.scores if score.get("people")]
    if not known:
        return []
    titles = [next(iter(parts(score)))[0] for score in known]
    columns = [{row["votes_of_ten"]: row for row in score["people"]["agreement"]} for score in known]
    rows = []
    for votes in sorted(set().union(*columns), reverse=True):
        found = [column.get(votes) for column in columns]
        cells = ["-" if row is None else f"{row['correct']:,} of {row['n']:,}" for row in found]
        rows.append((str(votes), *cells))
    return [table(("correct where so many of ten votes agree", *titles), rows)]


def class_prior(card: Card) -> list[str]:
    """Return what a uniform class prior costs and gains on validation by its weight, as far as measured."""
    known = card.class_prior
    if known is None:
        return []
    shares = ", ".join(f"{name} {share:.3f}" for name, share in known["shares"].items())
    words = (
        f"Shares of the expressions in training: {shares}. Another class prior counts with weight {known['weight']:g}."
    )
    if "trade" not in known:
        return [words]
    rows = [
        (
            f"{row['weight']:g}",
            f"{row['correct']:,} of {known['n']:,}",
            percent(row["accuracy"]),
            percent(row["mean_class_accuracy"]),
            percent(row["recall"]),
            f"{row['balanced_nll']:.4f}",
        )
        for row in known["trade"]
    ]
    head = ("weight of `--class-prior uniform`", "correct on validation", "accuracy", "mean class accuracy")
    return [words, table((*head, f"recall of {known['recall_of']}", "-log p, mean over classes"), rows)]


def failures(card: Card) -> list[str]:
    """List the classes with low recall on test, and what they are confused with."""
    score = card.score("test")
    if score is None:
        return []
    matrix, classes = score["confusion_matrix"], score["classes"]
    predicted = {name: sum(row[place] for row in matrix) for place, name in enumerate(classes)}
    lines = []
    for place, name in enumerate(classes):
        n, correct = sum(matrix[place]), matrix[place][place]
        if not n or correct / n >= _POOR_RECALL:
            continue
        others = sorted(((count, classes[i]) for i, count in enumerate(matrix[place]) if i != place), reverse=True)
        confused = " and ".join(f"{other} ({count:,})" for count, other in others[:2] if count)
        never = "; never predicted" if not predicted[name] else ""
        lines.append(f"- {name}: {correct:,} of {n:,} correct, most often confused with {confused}{never}")
    title, _ = next(iter(parts(score)))
    limit = f"{100 * _POOR_RECALL:g} %"
    if not lines:
        return [f"No class has a recall below {limit} on {title}."]
    return [f"Classes with a recall below {limit} on {title}:", "\n".join(lines)]


def attention(card: Card) -> list[str]:
    """Say whether the heads differ, and whether the attention is active."""
    known = card.training.get("attention") or {}
    if "max_attention_mean" not in known:
        return []
    means = " and ".join(f"{mean:.2f}" for mean in known["head_means"])
    joined = known["max_attention_mean"]
    off = (
        "so close to 1 that the attention is nearly switched off"
        if joined >= _SWITCHED_OFF
        else "below 1, so the attention is active"
    )
    return [
        f"Attention on validation: the head means are {means}; the mean squared difference of the heads is "
        f"{known['head_difference']:.3f}. Their maximum, which multiplies the features, has a mean of {joined:.3f}, "
        f"{off}."
    ]


def abstention(card: Card) -> list[str]:
    """Return the table of `--min-precision`: thresholds and coverage on validation, coverage and accuracy on test."""
    known = card.calibration
    if known is None:
        return []
    measured = (score for score in card.scores if score["split"] == "test" and score.get("rule") == known["rule"])
    score = next(measured, card.score("test")) or {}
    scored = {entry["min_precision"]: entry for entry in score.get("selective_prediction", ())}
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
            correct = f"{there['correct']:,} of {there['answered']:,} = {percent(there['precision'])}"
            test = (f"{100 * there['coverage']:.0f} %", f"{correct} ({interval(there)})")
        rows.append((f"{precision:g}", f"{threshold:.3f}", f"{100 * coverage:.0f} %", *test))
    head = ("`--min-precision`", "threshold", "coverage on validation", "coverage on test")
    head = (*head, f"correct on test, rule {score['rule']}" if "rule" in score else "correct on test")
    return [table(head, rows)]


def robustness(measured: Mapping[str, Any] | None, *, linked: bool = True) -> str:
    """Return the table of corruptions: accuracy lost at each level, and the verdict on the mild one.

    Args:
        measured: as for `describe`.
        linked: link the report, relative to the repository's root; else only name it.
    """
    if measured is None:
        return "Robustness to corruptions: not measured on these weights."
    levels: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in measured["levels"]:
        levels.setdefault(entry["perturbation"], {})[entry["level"]] = entry
    columns = [level for level in LEVELS if any(level in known for known in levels.values())]
    rows = []
    for name, known in levels.items():
        cells = [_drop(known[level]) if level in known else "-" for level in columns]
        rows.append((name, *cells, str(known["mild"]["verdict"])))
    drawn = max(entry.get("draws", 1) for entry in measured["levels"])
    flips, clean, report = measured["flips"], measured["clean"], f"docs/benchmarks/{measured['page']}"
    if flips is not None:
        low, high = (100 * end for end in flips["ci95"])
        rate = f"{flips['strength']}: {100 * flips['rate']:.1f} % ({low:.1f} to {high:.1f})"
        rows.append(("predictions flipped by landmark jitter", rate, *["-"] * (len(columns) - 1), flips["verdict"]))
    head = ("corruption", *columns, "mild: at most 3 points lost, 5 % flipped")
    subject = (
        f"Robustness to corruptions: points of accuracy lost on the same {clean['n']:,} faces of {measured['title']} "
        f"{measured['split']} ({percent(clean['accuracy'])} clean"
        + (f"; random mild corruptions are means of {drawn} draws" if drawn > 1 else "")
        + "). Intervals, mean class accuracy and agreement are in "
        + (f"[{measured['page']}]({report})." if linked else f"`{report}`.")
    )
    skipped = [f" Not measured: {name} ({reason})." for name, reason in measured["skipped"].items()]
    return "\n\n".join([subject + "".join(skipped), table(head, rows)])


def _drop(entry: Mapping[str, Any]) -> str:
    return f"{entry['strength']}: {100 * entry['drop']:z.1f}"


def _words(value: Any) -> str:
    """Return a setting of the run in one line."""
    return f"`{json.dumps(value, ensure_ascii=False)}`" if isinstance(value, dict | list) else f"`{value}`"


def parts(score: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield a score's title and figures, then those deduplicated against train."""
    known = CARDS.get(score["dataset"])
    title = f"{known.title if known else score['dataset']} {score['split']}"
    if score.get("rule") != "single label":
        title += f", rule {score['rule']}"
    yield title + ("" if score.get("official", True) else " (not the official split)"), score
    cleaned = score.get("duplicate_free")
    if cleaned:
        yield f"{title}, deduplicated against train ({cleaned['removed']:,} removed)", cleaned


def interval(part: Mapping[str, Any]) -> str:
    """Format the 95 % interval of a proportion."""
    low, high = part["ci95"]
    return f"{percent(low)} to {percent(high)}"


def percent(share: float) -> str:
    """Format a proportion as a percentage with two digits."""
    return f"{100 * share:.2f} %"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
