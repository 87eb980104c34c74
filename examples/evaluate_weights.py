"""Score weights on a split by your own rules: from the table of logits to whatever is to be known.

`ddamfn eval` prints the usual figures. Here the table itself is used: accuracy overall and by how sure the network was,
which tells at what confidence an answer can be left out.

python examples/evaluate_weights.py mine.onnx faces --split test
"""

import argparse
from collections.abc import Sequence

import numpy as np

from ddamfn.classifier import Classifier
from ddamfn.data import open_dataset
from ddamfn.evaluate.metrics import softmax, wilson_interval
from ddamfn.evaluate.predict import predict_split


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the weights that the arguments name."""
    parser = argparse.ArgumentParser(description="Scores weights on a split, by confidence.")
    parser.add_argument("weights", help="bundled weights or an .onnx file")
    parser.add_argument("data", help="a data set in any known layout")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rule", default="majority", help="how votes become a label, for sets of votes")
    args = parser.parse_args(arguments)

    classifier = Classifier(args.weights)
    table = predict_split(classifier, open_dataset(args.data), args.split, args.rule)
    scores = table.scores()
    low, high = scores.ci95
    print(f"{table.title} {table.split}, rule {table.rule or 'single label'}, N = {scores.n}")
    print(f"accuracy {scores.correct}/{scores.n} = {scores.accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}")
    print(f"mean class accuracy {scores.mean_class_accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}")

    confidence = softmax(table.logits, table.temperature).max(axis=1)
    right = table.logits.argmax(axis=1) == table.targets.argmax(axis=1)
    for least in (0.0, 0.5, 0.7, 0.9):
        answered = confidence >= least
        n, correct = int(answered.sum()), int(right[answered].sum())
        interval = "{:.3f} to {:.3f}".format(*wilson_interval(correct, n)) if n else "-"
        share = np.mean(answered)
        print(f"confidence at least {least:.1f}: answered {share:7.1%}, right {correct}/{n}, 95 % interval {interval}")


if __name__ == "__main__":
    main()
