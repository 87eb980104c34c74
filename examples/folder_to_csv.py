"""Read a folder of any size in constant memory, one CSV row a face, and count the expressions.

Faceless and unreadable images keep a row of their own, so that no image is lost without notice. The command line
does the same with `ddamfn predict FOLDER --output faces.csv`; this is where to begin if more is to be done.

python examples/folder_to_csv.py photos faces.csv
"""

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ddamfn import Recognizer
from ddamfn.formats import IMAGE_SUFFIXES
from ddamfn.results import row_columns


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the folder that the arguments name."""
    parser = argparse.ArgumentParser(description="Reads a folder of images into a CSV file.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path, help="the .csv file to write")
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    args = parser.parse_args(arguments)

    recognizer = Recognizer(args.weights)
    # A generator: the next image is opened only when a batch has room for it.
    images = (path for path in sorted(args.folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    counts: Counter[str] = Counter()
    with args.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row_columns(recognizer.card.labels))
        writer.writeheader()
        for result in recognizer.predict_many(images):
            writer.writerows(result.to_rows())
            counts.update(face.expression for face in result)
            counts["unreadable"] += result.error is not None
            counts["without a face"] += result.error is None and not result
    for name, count in counts.most_common():
        print(f"{name:<16}{count:>8,}")


if __name__ == "__main__":
    main()
